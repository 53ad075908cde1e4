"""What grafts and transplants would do, to first order: one backward pass for all of them.

For choosing what to try, never for a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from circuit_assertions.components import Mlp, Part
from circuit_assertions.engine.cache import Run, capture
from circuit_assertions.engine.layout import FINAL_RESIDUAL, UNEMBED_INPUT
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.parts import parts_of
from circuit_assertions.engine.rows import Sender
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END, Prompt, PromptSet

__all__ = ["slopes", "slopes_of_outputs", "slopes_of_patterns"]

_TOGETHER = 32  # prompts whose activations are kept for the way back


def slopes(into: Model, source: Model, prompts: PromptSet, parts: Sequence[Part]) -> dict[Part, float]:
    """About what each part of `source`, a model of the same shape, adds to the mean logit difference of `into`.

    The change of its weights, times the gradient at `into`. Both models are left as they were.
    """
    slope = _slope(into, prompts)
    ours, theirs = parts_of(into.layout), parts_of(source.layout)
    return {
        part: sum(
            float(((other.to(own) - own) * _in_memory(own, slope[_place(own)])).sum(dtype=torch.float64))
            for own, other in zip(ours[part], theirs[part], strict=True)
        )
        for part in parts
    }


def _slope(model: Model, prompts: PromptSet) -> dict[int, Tensor]:
    """Gradient of the mean logit difference, laid out as the weights' memory is, by the place of that memory.

    Several parameters may be views of one another: a fused projection, and its queries, keys and values.
    """
    weights = [weight for weight in model.layout.bridge.original_model.parameters() if weight.is_floating_point()]
    slope: dict[int, Tensor] = {}
    for weight in weights:
        if _place(weight) not in slope:
            numbers = weight.untyped_storage().nbytes() // weight.element_size()
            slope[_place(weight)] = torch.zeros(numbers, dtype=weight.dtype, device=weight.device)
    with _learning(weights), torch.enable_grad():
        for _, batch in prompts.batches(_TOGETHER):
            mean = _differences(model, batch)[0].sum() / len(prompts)
            for weight, gradient in zip(weights, torch.autograd.grad(mean, weights, allow_unused=True), strict=True):
                if gradient is not None:
                    _in_memory(weight, slope[_place(weight)]).add_(gradient)
    return slope


def slopes_of_outputs(into: Model, source: Model, prompts: PromptSet) -> dict[Sender, float]:
    """About what each head's and MLP's output, taken from `source`, adds to the mean logit difference of `into`."""
    layers = range(into.layout.layers)
    names = [into.layout.attention_output(layer) for layer in layers]
    names += [into.layout.mlp_write(layer) for layer in layers]
    added: dict[Sender, float] = {}
    for gradients, ours, theirs in _met(into, source, prompts, names):
        for layer in layers:
            writes = [
                torch.einsum("bphd,hdm->bphm", run.head_outputs[layer], model.layout.W_O(layer).to(into.device))
                for model, run in ((source, theirs), (into, ours))
            ]
            by_head = torch.einsum("bphm,bpm->h", writes[0] - writes[1], gradients[layer])
            for head, gain in enumerate(by_head.tolist()):
                added[Head(layer, head)] = added.get(Head(layer, head), 0.0) + gain
            moved = theirs.mlp_writes[layer] - ours.mlp_writes[layer]  # [prompts, positions, d_model]
            gain = float((moved * gradients[len(layers) + layer]).sum())
            added[Mlp(layer)] = added.get(Mlp(layer), 0.0) + gain
    return added


def slopes_of_patterns(into: Model, source: Model, prompts: PromptSet) -> dict[Head, float]:
    """The same for each head's attention pattern alone."""
    added: dict[Head, float] = {}
    names = [into.layout.pattern(layer) for layer in range(into.layout.layers)]
    for gradients, ours, theirs in _met(into, source, prompts, names):
        for layer, gradient in enumerate(gradients):
            moved = theirs.patterns[layer] - ours.patterns[layer]  # [prompts, heads, positions, positions]
            for head, gain in enumerate((moved * gradient).sum((0, 2, 3)).tolist()):
                added[Head(layer, head)] = added.get(Head(layer, head), 0.0) + gain
    return added


def _met(
    into: Model, source: Model, prompts: PromptSet, names: Sequence[str]
) -> Iterator[tuple[list[Tensor], Run, Run]]:
    """By batch: gradients of the mean logit difference of `into` at its activations; its run; the run of `source`."""
    for _, batch in prompts.batches(_TOGETHER):
        with _learning(list(into.layout.bridge.original_model.parameters())), torch.enable_grad():
            differences, values = _differences(into, batch, names)
            mean = differences.sum() / len(prompts)
            gradients = [gradient.to(into.device) for gradient in torch.autograd.grad(mean, values)]
        tokens = torch.tensor([prompt.tokens for prompt in batch], device=into.device)
        theirs = capture(source, tokens.to(source.device))
        with torch.no_grad():
            yield gradients, capture(into, tokens), theirs


def _differences(model: Model, prompts: Sequence[Prompt], names: Sequence[str] = ()) -> tuple[Tensor, list[Tensor]]:
    """Logit differences at `end` [prompts] and the activations of these names, with what they were computed from."""
    kept: dict[str, Tensor] = {}

    def keeping(name: str) -> Any:
        def keep(value: Tensor, hook: Any) -> None:  # a hook may be known by several names
            kept[name] = value

        return keep

    tokens = torch.tensor([prompt.tokens for prompt in prompts], device=model.device)
    hooks: list[tuple[str, Any]] = [(UNEMBED_INPUT, lambda value, hook: value[:, :1])]
    hooks += [(name, keeping(name)) for name in (FINAL_RESIDUAL, *names)]
    model.bridge.run_with_hooks(tokens, fwd_hooks=hooks)
    final = kept[FINAL_RESIDUAL]
    rows = torch.arange(len(prompts), device=final.device)
    ends, right, wrong = (
        torch.tensor(values, device=final.device)
        for values in (
            [prompt.positions[END] for prompt in prompts],
            [prompt.right for prompt in prompts],
            [prompt.wrong for prompt in prompts],
        )
    )
    return model.readout.logit_difference(final[rows, ends], right, wrong), [kept[name] for name in names]


def _place(weight: Tensor) -> int:
    return weight.untyped_storage().data_ptr()


def _in_memory(weight: Tensor, memory: Tensor) -> Tensor:
    """Those entries of `memory` [numbers] that stand where the weight's stand in its own."""
    return memory.as_strided(weight.shape, weight.stride(), weight.storage_offset())


@contextmanager
def _learning(weights: Sequence[Parameter]) -> Iterator[None]:
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for weight, learning in zip(weights, before, strict=True):
            weight.requires_grad_(learning)
