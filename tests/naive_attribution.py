"""Edge attribution again, slowly and obviously: the model written out, with a copy of the residual stream a receiver.

Nothing of the project and nothing of TransformerLens computes here. Every query, key and value head, every MLP and the
unembedding read a clone of their own, so that the gradient at the clone is the gradient of what that receiver reads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from naive_patching import WIRINGS, exact_softmax
from torch import Tensor

Node = tuple[str, int, int]  # ("head", layer, head), ("q", layer, head), ("k", layer, group), ("mlp", layer, 0), ...
EMBEDDING: Node = ("embedding", 0, 0)
LOGITS: Node = ("logits", 0, 0)


@dataclass
class Trace:
    """One run: what every sender wrote, what every receiver read, and who had written before it read."""

    writes: dict[Node, Tensor] = field(default_factory=dict)
    reads: dict[Node, Tensor] = field(default_factory=dict)
    before: dict[Node, list[Node]] = field(default_factory=dict)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))

    def read(self, receiver: Node, residual: Tensor) -> Tensor:
        self.reads[receiver] = residual.clone()
        self.before[receiver] = list(self.writes)
        return self.reads[receiver]


@dataclass(frozen=True)
class Parts:
    """One architecture. `weights` gives W [n, d_model, d_head] and b [n, d_head] of `q`, `k`, `v`."""

    blocks: Callable[[Any], Any]
    embed: Callable[[Any, Tensor], Tensor]
    norm: Callable[[Any], Any]
    weights: Callable[[Any, str], tuple[Tensor, Tensor]]
    output: Callable[[Any], tuple[Tensor, Tensor]]  # W_O [heads * d_head, d_model] and b_O [d_model]
    mlp_norm: Callable[[Any], Any]
    mlp: Callable[[Any], Any]
    final_norm: Callable[[Any], Any]
    rotary: Callable[[Any], Any] | None = None
    parallel: bool = False


def _gpt2_weights(block: Any, which: str) -> tuple[Tensor, Tensor]:
    attention, part = block.attn, "qkv".index(which)
    weight, bias = attention.c_attn.weight.chunk(3, dim=1)[part], attention.c_attn.bias.chunk(3)[part]
    return _by_head(weight, attention.num_heads), bias.view(attention.num_heads, -1)


def _llama_weights(block: Any, which: str) -> tuple[Tensor, Tensor]:
    weight = getattr(block.self_attn, f"{which}_proj").weight.T
    split = _by_head(weight, weight.shape[1] // block.self_attn.head_dim)
    return split, split.new_zeros(split.shape[0], split.shape[2])


def _neox_weights(block: Any, which: str) -> tuple[Tensor, Tensor]:
    joint, part = block.attention.query_key_value, "qkv".index(which)
    size = block.attention.head_size
    weight = joint.weight.view(-1, 3, size, joint.weight.shape[1])[:, part]  # [heads, d_head, d_model]
    return weight.transpose(1, 2), joint.bias.view(-1, 3, size)[:, part]


def _by_head(weight: Tensor, heads: int) -> Tensor:
    return weight.reshape(len(weight), heads, -1).transpose(0, 1)  # [heads, d_model, d_head]


PARTS = {
    "gpt2": Parts(
        blocks=lambda model: model.transformer.h,
        embed=lambda model, tokens: (
            model.transformer.wte(tokens) + model.transformer.wpe(torch.arange(tokens.shape[1]))
        ),
        norm=lambda block: block.ln_1,
        weights=_gpt2_weights,
        output=lambda block: (block.attn.c_proj.weight, block.attn.c_proj.bias),
        mlp_norm=lambda block: block.ln_2,
        mlp=lambda block: block.mlp,
        final_norm=lambda model: model.transformer.ln_f,
    ),
    "llama": Parts(
        blocks=lambda model: model.model.layers,
        embed=lambda model, tokens: model.model.embed_tokens(tokens),
        norm=lambda block: block.input_layernorm,
        weights=_llama_weights,
        output=lambda block: (block.self_attn.o_proj.weight.T, block.self_attn.o_proj.weight.new_zeros(())),
        mlp_norm=lambda block: block.post_attention_layernorm,
        mlp=lambda block: block.mlp,
        final_norm=lambda model: model.model.norm,
        rotary=lambda model: model.model.rotary_emb,
    ),
    "gpt_neox": Parts(
        blocks=lambda model: model.gpt_neox.layers,
        embed=lambda model, tokens: model.gpt_neox.embed_in(tokens),
        norm=lambda block: block.input_layernorm,
        weights=_neox_weights,
        output=lambda block: (block.attention.dense.weight.T, block.attention.dense.bias),
        mlp_norm=lambda block: block.post_attention_layernorm,
        mlp=lambda block: block.mlp,
        final_norm=lambda model: model.gpt_neox.final_layer_norm,
        rotary=lambda model: model.gpt_neox.rotary_emb,
        parallel=True,
    ),
}


class NaiveAttribution:
    """Edge scores of a Hugging Face model on clean prompts and their twins."""

    def __init__(self, model: Any, clean: Tensor, twins: Tensor, right: Tensor, wrong: Tensor) -> None:
        self.model, self.parts = model, PARTS[model.config.model_type]
        self.right, self.wrong = right, wrong
        with torch.no_grad():
            self.clean, self.other = (self.run(self.parts.embed(model, tokens)) for tokens in (clean, twins))

    def scores(self, steps: int) -> dict[tuple[Node, Node], Tensor]:
        """Score [prompts] of every edge, as (sender, receiver)."""
        scores: dict[tuple[Node, Node], Tensor] = {}
        start, end = self.other.writes[EMBEDDING], self.clean.writes[EMBEDDING]
        for step in range(1, steps + 1):
            trace = self.run((start + step / steps * (end - start)).requires_grad_())
            gradients = torch.autograd.grad(self.difference(trace.logits).sum(), list(trace.reads.values()))
            for receiver, gradient in zip(trace.reads, gradients, strict=True):
                for sender in trace.before[receiver]:
                    lost = self.clean.writes[sender] - self.other.writes[sender]
                    edge = (lost * gradient).sum(dim=(1, 2)) / steps
                    scores[sender, receiver] = scores.get((sender, receiver), 0) + edge
        return scores

    def difference(self, logits: Tensor) -> Tensor:
        """logit(right) - logit(wrong) at the last token [prompts]."""
        rows = torch.arange(len(self.right))
        return logits[rows, -1, self.right] - logits[rows, -1, self.wrong]

    def run(self, residual: Tensor) -> Trace:
        """The model from its embeddings [prompts, positions, d_model] on."""
        trace, parts = Trace(), self.parts
        trace.writes[EMBEDDING] = residual
        for layer, block in enumerate(parts.blocks(self.model)):
            queries, keys, values = (
                torch.stack(
                    [
                        parts.norm(block)(trace.read((which, layer, head), residual)) @ weight + bias
                        for head, (weight, bias) in enumerate(zip(*parts.weights(block, which), strict=True))
                    ],
                    dim=1,
                )  # [prompts, heads, positions, d_head]
                for which in "qkv"
            )
            z = self.attend(queries, keys, values)
            if parts.parallel:
                mlp = parts.mlp(block)(parts.mlp_norm(block)(trace.read(("mlp", layer, 0), residual)))
            weight, bias = parts.output(block)
            for head, own in enumerate(weight.chunk(z.shape[1])):
                trace.writes["head", layer, head] = z[:, head] @ own
                residual = residual + trace.writes["head", layer, head]
            residual = residual + bias
            if not parts.parallel:
                mlp = parts.mlp(block)(parts.mlp_norm(block)(trace.read(("mlp", layer, 0), residual)))
            trace.writes["mlp", layer, 0] = mlp
            residual = residual + mlp
        trace.logits = self.model.get_output_embeddings()(parts.final_norm(self.model)(trace.read(LOGITS, residual)))
        return trace

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The heads' outputs [prompts, heads, positions, d_head]."""
        length = queries.shape[2]
        if self.parts.rotary is not None:
            cosine, sine = self.parts.rotary(self.model)(queries, torch.arange(length)[None])
            queries, keys = (_turned(rows, cosine[:, None], sine[:, None]) for rows in (queries, keys))
        share = queries.shape[1] // keys.shape[1]
        keys, values = keys.repeat_interleave(share, dim=1), values.repeat_interleave(share, dim=1)
        scores = queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        outputs: Tensor = scores.masked_fill(later, float("-inf")).softmax(dim=-1) @ values
        return outputs


def _turned(rows: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    width = cosine.shape[-1]
    turned, rest = rows[..., :width], rows[..., width:]
    low, high = turned.chunk(2, dim=-1)
    return torch.cat((turned * cosine + torch.cat((-high, low), dim=-1) * sine, rest), dim=-1)


def node_scores(model: Any, clean: Tensor, twins: Tensor, right: Tensor, wrong: Tensor) -> dict[Node, Tensor]:
    """First-order effect [prompts] of the embedding and of every head, through all that reads them together.

    The gradient goes through Hugging Face's own forward pass, of whatever architecture.
    """
    wiring = WIRINGS[model.config.model_type]
    blocks = list(model.get_submodule(wiring.blocks))
    outputs = [block.get_submodule(f"{wiring.attention}.{wiring.output}") for block in blocks]

    def run(tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        seen: list[Tensor] = []
        watched = [blocks[0], *outputs]
        handles = [
            module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0])) for module in watched
        ]
        try:
            logits = model(tokens, use_cache=False).logits
        finally:
            for handle in handles:
                handle.remove()
        return logits, seen

    logits, mine = run(clean)
    _, theirs = run(twins)
    rows = torch.arange(len(right))
    difference = logits[rows, -1, right] - logits[rows, -1, wrong]
    gradients = torch.autograd.grad(difference.sum(), mine)
    heads = model.config.num_attention_heads
    changes = [
        ((value - other) * gradient).detach() for value, other, gradient in zip(mine, theirs, gradients, strict=True)
    ]
    found = {EMBEDDING: changes[0].sum(dim=(1, 2))}
    for layer, change in enumerate(changes[1:]):
        by_head = change.reshape(*change.shape[:2], heads, -1).sum(dim=(1, 3))  # [prompts, heads]
        found |= {("head", layer, head): by_head[:, head] for head in range(heads)}
    return found


@contextlib.contextmanager
def exact_floats() -> Iterator[None]:
    """Hugging Face rounds to float32 in norms, softmax and rotation, whatever the dtype; let float64 stay float64."""
    with (
        exact_softmax(),
        mock.patch.object(torch, "float32", torch.float64),
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
    ):
        yield
