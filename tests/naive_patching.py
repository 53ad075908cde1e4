"""Path patching again, slowly and obviously: hooks on Hugging Face's own modules, one forward pass a sender.

Nothing of the project and nothing of TransformerLens computes here. Freezing means that a pre-hook on the output
projection puts the clean heads back; patching means that it puts the other run's head in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

Sender = tuple[str, int, int]  # ("head", layer, head) or ("mlp", layer, 0)


@dataclass(frozen=True)
class Wiring:
    """Where one architecture keeps its blocks, its output projection, its MLP, and its queries, keys and values.

    `view(attention, which, output)` is a view [prompts, positions, heads, d_head] into the output of `module(which)`.
    """

    blocks: str
    attention: str
    output: str
    mlp: str
    module: Callable[[str], str]
    view: Callable[[Any, str, Tensor], Tensor]


def _by(size: int, value: Tensor) -> Tensor:
    """The last dimension in pieces of `size`, a view [..., pieces, size]."""
    return value.view(*value.shape[:-1], -1, size)


def _own(attention: Any, which: str, output: Tensor) -> Tensor:
    return _by(attention.head_dim, output)


def _thirds(attention: Any, which: str, output: Tensor) -> Tensor:
    third: Tensor = output.chunk(3, dim=-1)["qkv".index(which)]
    return _by(attention.head_dim, third)


def _by_head(attention: Any, which: str, output: Tensor) -> Tensor:
    size = attention.head_size
    start = "qkv".index(which) * size
    return _by(3 * size, output)[..., start : start + size]


def _by_head_of_bloom(attention: Any, which: str, output: Tensor) -> Tensor:
    size = attention.head_dim
    start = "qkv".index(which) * size
    return _by(3 * size, output)[..., start : start + size]


def _behind_queries(attention: Any, which: str, output: Tensor) -> Tensor:
    """Falcon with one key and value head: all queries, the key, the value; with one of each for each head, by head."""
    if not attention.multi_query:
        return _by_head_of_bloom(attention, which, output)
    heads = _by(attention.head_dim, output)
    return {"q": heads[..., :-2, :], "k": heads[..., -2:-1, :], "v": heads[..., -1:, :]}[which]


def _of_bert(attention: Any, which: str, output: Tensor) -> Tensor:
    return _by(attention.self.attention_head_size, output)


def _through_latent(attention: Any, which: str, output: Tensor) -> Tensor:
    """DeepSeek: queries made of one latent; values behind that part of the keys that is made of the other."""
    if output.dim() == 4:  # [prompts, 1, positions, width]
        output = output[:, 0]
    if which == "q":
        return _by(attention.qk_head_dim, output)
    return _by(attention.qk_nope_head_dim + attention.v_head_dim, output)[..., attention.qk_nope_head_dim :]


_LLAMA = Wiring("model.layers", "self_attn", "o_proj", "mlp", lambda which: f"{which}_proj", _own)
WIRINGS: Mapping[str, Wiring] = {
    **dict.fromkeys(
        ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "mixtral", "olmo", "olmo2"), _LLAMA
    ),
    **dict.fromkeys(("granite", "cohere", "cohere2", "stablelm", "nanochat", "gpt_oss", "glm", "ernie4_5"), _LLAMA),
    **dict.fromkeys(("hunyuan_v1_dense", "afmoe"), _LLAMA),
    "granitemoe": replace(_LLAMA, mlp="block_sparse_moe"),
    "llama4_text": replace(_LLAMA, mlp="feed_forward"),
    **dict.fromkeys(
        ("deepseek_v2", "deepseek_v3"),
        replace(_LLAMA, module=lambda which: "q_b_proj" if which == "q" else "kv_b_proj", view=_through_latent),
    ),
    "bloom": Wiring(
        "transformer.h",
        "self_attention",
        "dense",
        "mlp.dense_4h_to_h",
        lambda which: "query_key_value",
        _by_head_of_bloom,
    ),
    "bert": Wiring(
        "bert.encoder.layer",
        "attention",
        "output.dense",
        "output.dense",
        lambda which: {"q": "self.query", "k": "self.key", "v": "self.value"}[which],
        _of_bert,
    ),
    "mpt": Wiring("transformer.blocks", "attn", "out_proj", "ffn.down_proj", lambda which: "Wqkv", _thirds),
    "modernbert-decoder": Wiring("model.layers", "attn", "Wo", "mlp", lambda which: f"{which}_proj", _own),
    "gpt2": Wiring("transformer.h", "attn", "c_proj", "mlp", lambda which: "c_attn", _thirds),
    "gpt_neo": Wiring("transformer.h", "attn.attention", "out_proj", "mlp", lambda which: f"{which}_proj", _own),
    "gptj": Wiring("transformer.h", "attn", "out_proj", "mlp", lambda which: f"{which}_proj", _own),
    "gpt_neox": Wiring("gpt_neox.layers", "attention", "dense", "mlp", lambda which: "query_key_value", _by_head),
    "opt": Wiring("model.decoder.layers", "self_attn", "out_proj", "fc2", lambda which: f"{which}_proj", _own),
    "phi": Wiring("model.layers", "self_attn", "dense", "mlp", lambda which: f"{which}_proj", _own),
    "falcon": Wiring(
        "transformer.h", "self_attention", "dense", "mlp", lambda which: "query_key_value", _behind_queries
    ),
}


@dataclass
class Kept:
    """What a pass leaves for others. Lists have one entry a layer."""

    logits: Tensor = field(default_factory=lambda: torch.empty(0))  # [prompts, positions, d_vocab]
    z: list[Tensor] = field(default_factory=list)  # [prompts, positions, heads * d_head]
    mlp: list[Tensor] = field(default_factory=list)  # [prompts, positions, d_model]
    tapped: dict[int, Tensor] = field(default_factory=dict)  # receivers' inputs [prompts, positions, heads, d_head]


class NaivePatching:
    """One model, a batch of clean prompts and their twins, and effects by one forward pass each."""

    def __init__(self, model: Any, clean: Tensor, twins: Tensor, right: Tensor, wrong: Tensor) -> None:
        self.model = model
        self.wiring = WIRINGS[model.config.model_type]
        self.blocks: list[Any] = list(_find(model, self.wiring.blocks))
        self.tokens, self.twins, self.right, self.wrong = clean, twins, right, wrong
        self.clean, self.other = self.keep(clean), self.keep(twins)

    def difference(self, logits: Tensor) -> Tensor:
        """logit(right) - logit(wrong) at the last token [prompts]."""
        rows = torch.arange(len(self.right))
        return logits[rows, -1, self.right] - logits[rows, -1, self.wrong]

    def lost(self, logits: Tensor) -> Tensor:
        """What is lost of the clean logit difference [prompts]."""
        return self.difference(self.clean.logits) - self.difference(logits)

    def to_logits(self, sender: Sender, semantics: str) -> Tensor:
        """Path effect of one sender on the logits [prompts]."""
        with self.frozen(sender, semantics):
            return self.lost(self.keep(self.tokens).logits)

    def to_inputs(
        self, sender: Sender, which: str, receivers: Sequence[tuple[int, int]], at: Tensor, semantics: str
    ) -> Tensor:
        """Path effect of one sender through the receivers' inputs at positions `at` [prompts], groups as groups."""
        layers = sorted({layer for layer, _ in receivers})
        with self.frozen(sender, semantics):
            tapped = self.keep(self.tokens, which, layers).tapped
        with contextlib.ExitStack() as stack:
            for layer in layers:
                heads = [head for of, head in receivers if of == layer]
                stack.enter_context(self.receiving(layer, which, heads, at, tapped[layer]))
            return self.lost(self.keep(self.tokens).logits)

    def total(self, sender: Sender, at: Tensor | None = None) -> Tensor:
        """Effect of the sender's own output of the other run, everything else live [prompts]."""
        with self.putting(sender, at):
            return self.lost(self.keep(self.tokens).logits)

    @torch.no_grad()
    def keep(self, tokens: Tensor, which: str = "q", layers: Sequence[int] = ()) -> Kept:
        """One forward pass, keeping heads, MLPs and the projections of some layers."""
        kept = Kept()
        handles = []
        for layer, block in enumerate(self.blocks):
            attention = _find(block, self.wiring.attention)
            output = _find(attention, self.wiring.output)
            handles.append(output.register_forward_pre_hook(lambda _m, inputs: kept.z.append(inputs[0].clone())))
            mlp = _find(block, self.wiring.mlp)
            handles.append(mlp.register_forward_hook(lambda _m, _i, out: kept.mlp.append(_first(out).clone())))
            if layer in layers:
                module = _find(attention, self.wiring.module(which))

                def tap(_m: Any, _i: Any, out: Tensor, layer: int = layer, attention: Any = attention) -> None:
                    kept.tapped[layer] = self.wiring.view(attention, which, out).clone()

                handles.append(module.register_forward_hook(tap))
        try:
            kept.logits = self.model(tokens, use_cache=False).logits
        finally:
            for handle in handles:
                handle.remove()
        return kept

    @contextlib.contextmanager
    def frozen(self, sender: Sender, semantics: str) -> Iterator[None]:
        """All heads clean but the sender; MLPs live (`through-mlps`) or clean too (`direct`)."""
        kind, of, head = sender
        with contextlib.ExitStack() as stack:
            for layer, block in enumerate(self.blocks):
                z = self.clean.z[layer].clone()
                if kind == "head" and layer == of:
                    self.heads(block, z)[:, :, head] = self.heads(block, self.other.z[layer])[:, :, head]
                stack.enter_context(_put_in(self.output(block), z))
                if kind == "mlp" and layer == of:
                    stack.enter_context(_put_out(_find(block, self.wiring.mlp), self.other.mlp[layer]))
                elif semantics == "direct":
                    stack.enter_context(_put_out(_find(block, self.wiring.mlp), self.clean.mlp[layer]))
            yield

    @contextlib.contextmanager
    def as_put(self, layer: int, z: Tensor, mlp: Tensor) -> Iterator[None]:
        """A block whose heads and MLP put out what is given."""
        block = self.blocks[layer]
        with _put_in(self.output(block), z), _put_out(_find(block, self.wiring.mlp), mlp):
            yield

    @contextlib.contextmanager
    def putting(self, sender: Sender, at: Tensor | None) -> Iterator[None]:
        """The sender's output of the other run, at some positions or everywhere."""
        kind, layer, head = sender
        block = self.blocks[layer]
        rows = torch.arange(len(self.right))
        source, target = (self.other.z, self.clean.z) if kind == "head" else (self.other.mlp, self.clean.mlp)
        value = target[layer].clone()
        if kind == "mlp":
            with _put_out(
                _find(block, self.wiring.mlp), source[layer] if at is None else _at(value, source[layer], at)
            ):
                yield
            return
        mine, theirs = self.heads(block, value), self.heads(block, source[layer])
        if at is None:
            mine[:, :, head] = theirs[:, :, head]
        else:
            mine[rows, at, head] = theirs[rows, at, head]
        with _put_in(self.output(block), value):
            yield

    @contextlib.contextmanager
    def receiving(self, layer: int, which: str, heads: Sequence[int], at: Tensor, tapped: Tensor) -> Iterator[None]:
        """The receivers' queries, keys or values at `at`, as tapped; a key or value belongs to its whole group."""
        attention = _find(self.blocks[layer], self.wiring.attention)
        rows = torch.arange(len(self.right))

        def hook(_module: Any, _inputs: Any, out: Tensor) -> Tensor:
            put = out.clone()
            view = self.wiring.view(attention, which, put)
            share = 1 if which == "q" else self.model.config.num_attention_heads // view.shape[2]
            for group in sorted({head // share for head in heads}):
                view[rows, at, group] = tapped[rows, at, group]
            return put

        handle = _find(attention, self.wiring.module(which)).register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def heads(self, block: Any, z: Tensor) -> Tensor:
        """Head outputs by head, a view [prompts, positions, heads, d_head]."""
        return _by(z.shape[-1] // self.model.config.num_attention_heads, z)

    def output(self, block: Any) -> Any:
        """The output projection of a block."""
        return _find(_find(block, self.wiring.attention), self.wiring.output)


@contextlib.contextmanager
def exact_softmax() -> Iterator[None]:
    """Hugging Face rounds attention to float32, whatever the dtype, in its softmax; let float64 stay float64.

    GPT-J and GPT-Neo take the scores in float32 as well, Cohere and GLM what they norm.
    """

    def softmax(scores: Tensor, dim: int = -1, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
        exponentials = torch.exp(scores - scores.amax(dim=dim, keepdim=True))
        return exponentials / exponentials.sum(dim=dim, keepdim=True)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch("torch.nn.functional.softmax", softmax))
        for family in ("gptj", "gpt_neo", "cohere", "cohere2", "glm"):
            stack.enter_context(mock.patch(f"transformers.models.{family}.modeling_{family}.torch", _Unrounded()))
        yield


class _Unrounded:
    """Torch, for whom float32 is float64."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextlib.contextmanager
def _put_in(module: Any, value: Tensor) -> Iterator[None]:
    handle = module.register_forward_pre_hook(lambda _module, inputs: (value, *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _put_out(module: Any, value: Tensor) -> Iterator[None]:
    def hook(_module: Any, _inputs: Any, out: Any) -> Any:
        put = value.clone()  # Falcon adds to its MLP's output in place
        return (put, *out[1:]) if isinstance(out, tuple) else put

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _at(value: Tensor, source: Tensor, at: Tensor) -> Tensor:
    rows = torch.arange(len(at))
    by_prompt = (len(at), -1, value.shape[-1])  # OPT hands its MLP all positions of all prompts in one dimension
    value.view(by_prompt)[rows, at] = source.view(by_prompt)[rows, at]
    return value


def _first(out: Any) -> Tensor:
    tensor: Tensor = out[0] if isinstance(out, tuple) else out
    return tensor


def _find(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module
