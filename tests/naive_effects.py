"""Effects that stop short of a whole path, again slowly and obviously: hooks on Hugging Face's own modules.

A receiver's own attention is what the model says of it (`output_attentions`) in a pass in which everything else is put
back; its own write is a pass in which nothing but its output differs.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from naive_patching import NaivePatching, Sender
from torch import Tensor

Receivers = Sequence[tuple[int, int]]


def total_of_residual(slow: NaivePatching, layer: int, at: Tensor | None) -> Tensor:
    """Effect of the other run's residual stream entering a block [prompts]."""
    block = slow.blocks[layer]
    entered: list[Tensor] = []

    def keep(_module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        entered.append(_hidden(inputs, named).clone())

    for tokens in (slow.tokens, slow.twins):
        with _before(block, keep), torch.no_grad():
            slow.model(tokens, use_cache=False)
    put, theirs = entered
    rows = torch.arange(len(put))
    if at is None:
        put = theirs
    else:
        put[rows, at] = theirs[rows, at]

    def change(_module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return ((put, *inputs[1:]), named) if inputs else (inputs, named | {"hidden_states": put})

    with _before(block, change):
        return slow.lost(slow.keep(slow.tokens).logits)


def of_pattern(slow: NaivePatching, layer: int, head: int, at: Tensor | None) -> Tensor:
    """Effect of the other run's attention pattern over the clean run's values [prompts]: a head output of its own."""
    values = slow.keep(slow.tokens, "v", [layer]).tapped[layer]  # [prompts, positions, groups, d_head]
    pattern = _attentions(slow, slow.twins)[layer][:, head]  # [prompts, queries, keys]
    if getattr(slow.model.config, "clip_qkv", None):  # OLMo's attention takes what was projected clamped
        values = values.clamp(-slow.model.config.clip_qkv, slow.model.config.clip_qkv)
    group = head // (slow.model.config.num_attention_heads // values.shape[2])
    output = pattern @ values[:, :, group]
    z = slow.clean.z[layer].clone()
    mine, rows = slow.heads(slow.blocks[layer], z), torch.arange(len(z))
    if at is None:
        mine[:, :, head] = output
    else:
        mine[rows, at, head] = output[rows, at]
    with _before(slow.output(slow.blocks[layer]), lambda _module, inputs, named: ((z, *inputs[1:]), named)):
        return slow.lost(slow.keep(slow.tokens).logits)


def to_attention(
    slow: NaivePatching, sender: Sender, which: str, receivers: Receivers, query: Tensor, key: Tensor, semantics: str
) -> Tensor:
    """Attention from `query` to `key` that the receivers lose, the mean over them [prompts]."""
    patterns, _ = _alone(slow, sender, which, receivers, query if which == "q" else key, semantics)
    clean, rows = _of_clean_run(slow), torch.arange(len(query))
    lost = [(clean[layer] - patterns[layer])[rows, head, query, key] for layer, head in receivers]
    return torch.stack(lost).mean(dim=0)


def to_writes(
    slow: NaivePatching, sender: Sender, which: str, receivers: Receivers, at: Tensor, semantics: str
) -> Tensor:
    """Logit difference lost when the receivers' outputs at the last token, and nothing else, are what they become."""
    _, outputs = _alone(slow, sender, which, receivers, at, semantics)
    with contextlib.ExitStack() as stack:
        for layer, block in enumerate(slow.blocks):
            z = slow.clean.z[layer].clone()
            for of, head in receivers:
                if of == layer:
                    slow.heads(block, z)[:, -1, head] = slow.heads(block, outputs[layer])[:, -1, head]
            stack.enter_context(slow.as_put(layer, z, slow.clean.mlp[layer]))
        return slow.lost(slow.keep(slow.tokens).logits)


@torch.no_grad()
def _alone(
    slow: NaivePatching, sender: Sender, which: str, receivers: Receivers, at: Tensor, semantics: str
) -> tuple[Sequence[Tensor], list[Tensor]]:
    """Patterns and head outputs with the receivers' inputs changed and every block entered as in the clean run."""
    layers = sorted({layer for layer, _ in receivers})
    with slow.frozen(sender, semantics):
        tapped = slow.keep(slow.tokens, which, layers).tapped
    outputs: list[Tensor] = []

    def put_back(_module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        outputs.append(inputs[0].clone())
        return (slow.clean.z[len(outputs) - 1], *inputs[1:]), named

    with contextlib.ExitStack() as stack:
        for layer in layers:
            heads = [head for of, head in receivers if of == layer]
            stack.enter_context(slow.receiving(layer, which, heads, at, tapped[layer]))
        for block in slow.blocks:
            stack.enter_context(_before(slow.output(block), put_back))
        return _attentions(slow, slow.tokens), outputs


@functools.cache
def _of_clean_run(slow: NaivePatching) -> Sequence[Tensor]:
    return _attentions(slow, slow.tokens)


@torch.no_grad()
def _attentions(slow: NaivePatching, tokens: Tensor) -> Sequence[Tensor]:
    """Attention patterns by layer, each [prompts, heads, queries, keys]."""
    patterns: Sequence[Tensor] = slow.model(tokens, use_cache=False, output_attentions=True).attentions
    return patterns


@contextlib.contextmanager
def _before(module: Any, hook: Any) -> Iterator[None]:
    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _hidden(inputs: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    hidden: Tensor = inputs[0] if inputs else named["hidden_states"]
    return hidden
