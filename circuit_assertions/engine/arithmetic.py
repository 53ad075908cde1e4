"""A transformer block as arithmetic on rows, and the proof on the spot that it is this model's own.

Path patching moves many patched residual rows through the same blocks. This file computes what a block makes of any
rows, with the model's own modules, without running the model. What differs between architectures (where the MLP reads,
how queries and keys are normed and turned, which keys a query may see) is not looked up by name: it is recognised by
trying what there is and keeping what reproduces a captured run. Where nothing does, hooks measure instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from circuit_assertions.engine.cache import Run
from circuit_assertions.engine.layout import Layout

__all__ = ["Block", "NotRecognisedError", "recognise"]

Projection = Literal["q", "k", "v"]
Turn = Callable[
    [Tensor, Tensor, Tensor], Tensor
]  # rows [..., n, d_head], cosine and sine [..., rotated] -> turned rows


class NotRecognisedError(Exception):
    """No arithmetic that is known here reproduces a block. Never reaches the user: the hooks take over."""


@dataclass(frozen=True)
class Block:
    """One block's arithmetic.

    Attributes:
        reads: where the MLP reads: `middle` (after attention), or `before` (parallel blocks), and through which norm.
        turn: the rotary embedding; None for learned positions.
        scale: what scores are multiplied by, and `softcap` what they are squashed to (0: nothing).
        window: how many tokens back a query may look, itself included; 0 for all.
        softmax: the dtype that the model takes its softmax in.
    """

    layout: Layout
    layer: int
    reads: Literal["middle", "before"]
    mlp_norm: Any
    turn: Turn | None
    scale: float
    softcap: float
    window: int
    softmax: torch.dtype

    def after(self, before: Tensor, attention_write: Tensor) -> Tensor:
        """The residual stream leaving the block, for rows entering it and what attention adds, both [..., d_model]."""
        middle = before + attention_write
        return middle + self.mlp_write(middle if self.reads == "middle" else before)

    def mlp_write(self, rows: Tensor) -> Tensor:
        """What the MLP adds, for the rows that it reads [..., d_model]."""
        normed = rows if self.mlp_norm is None else self.mlp_norm(rows)
        flat = normed.reshape(1, -1, normed.shape[-1])  # a mixture of experts routes [batch, positions, d_model]
        written = _mlp(self.layout.bridge.blocks[self.layer], flat)
        post_norm = _raw(getattr(self.layout.bridge.blocks[self.layer], "ln2_post", None))
        return (written if post_norm is None else post_norm(written)).reshape(rows.shape)

    def attention_write(self, outputs: Tensor) -> Tensor:
        """What attention adds, for its outputs before any post-norm [..., d_model]."""
        post_norm = _raw(self.layout.attention_post_norm(self.layer))
        written: Tensor = outputs if post_norm is None else post_norm(outputs)
        return written

    def normed(self, rows: Tensor) -> Tensor:
        """What queries, keys and values are projected from, for rows entering the block [..., d_model]."""
        normed: Tensor = _raw(self.layout.attention_norm(self.layer))(rows)
        return normed

    def project(self, which: Projection, normed: Tensor) -> Tensor:
        """Queries [..., heads, d_head], or keys or values [..., groups, d_head], before any norm or rotation."""
        attention = self.layout.bridge.blocks[self.layer].attn
        flat = _raw(getattr(attention, which))(normed)
        projected: Tensor = flat.unflatten(-1, (-1, self.layout.d_head(self.layer)))
        return projected

    def placed(self, which: Projection, projected: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """Queries or keys normed and turned to their positions.

        Args:
            projected: [..., heads, d_head]
            rotary: cosine and sine at each row's position [..., rotated], broadcastable to the rows.
        """
        norm = _raw(getattr(self.layout.bridge.blocks[self.layer].attn, f"{which}_norm", None))
        if norm is not None:
            width = norm.weight.shape[-1]
            whole = width != projected.shape[-1]  # some models norm all heads together
            projected = norm(projected.flatten(-2)).view_as(projected) if whole else norm(projected)
        return projected if self.turn is None or rotary is None else self.turn(projected, *rotary)

    def pattern(self, queries: Tensor, keys: Tensor, first: int) -> Tensor:
        """Attention of queries at positions `first` and following over keys from position 0.

        Args:
            queries: [..., queries, heads, d_head]
            keys: [..., keys, heads, d_head], one for each query head

        Returns:
            [..., heads, queries, keys]
        """
        scores = torch.einsum("...qhd,...khd->...hqk", queries, keys) * self.scale
        if self.softcap > 0:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        at = torch.arange(first, first + queries.shape[-3], device=queries.device)[:, None]
        seen = torch.arange(keys.shape[-3], device=queries.device)[None, :]
        hidden = seen > at if not self.window else (seen > at) | (seen <= at - self.window)  # [queries, keys]
        scores = scores.masked_fill(hidden, float("-inf"))
        return scores.softmax(dim=-1, dtype=self.softmax).to(queries.dtype)

    def for_each_query_head(self, grouped: Tensor, dim: int = -2) -> Tensor:
        """Keys or values of groups [..., key-value heads, d_head] repeated for each query head [..., heads, d_head]."""
        return grouped.repeat_interleave(self.layout.heads // grouped.shape[dim], dim=dim)

    def output(self, z: Tensor) -> Tensor:
        """The attention block's output before any post-norm, for all heads' outputs [..., heads, d_head]."""
        out: Tensor = _raw(self.layout.bridge.blocks[self.layer].attn.o)(z.flatten(-2))
        return out


def recognise(layout: Layout, run: Run) -> list[Block]:
    """The arithmetic of every block, proven on a captured run.

    Raises:
        NotRecognisedError: with the reason, if some block does something that is not known here.
    """
    return [_recognise_block(layout, layer, run) for layer in range(layout.layers)]


def _recognise_block(layout: Layout, layer: int, run: Run) -> Block:
    reads, norm = _recognise_mlp(layout, layer, run)
    original = _raw(layout.bridge.blocks[layer].attn)
    softcap = float(getattr(original, "attn_logit_softcapping", None) or 0.0)
    scale = float(getattr(original, "scaling", None) or layout.d_head(layer) ** -0.5)
    pattern = run.patterns[layer]
    halved = pattern.dtype == torch.float64 and bool((pattern == pattern.float().double()).all())
    softmax = torch.float32 if halved or pattern.dtype in (torch.bfloat16, torch.float16) else pattern.dtype
    turns: tuple[Turn | None, ...] = (_turn_halves, _turn_pairs) if layer in run.rotary else (None,)
    for turn, window in itertools.product(turns, _windows(original)):
        block = Block(layout, layer, reads, norm, turn, scale, softcap, window, softmax)
        if _reproduces(block, run):
            return block
    raise NotRecognisedError(f"the attention of block {layer} is not computed in a way that is known here")


def _recognise_mlp(layout: Layout, layer: int, run: Run) -> tuple[Literal["middle", "before"], Any]:
    before = run.residual[layer]
    middle = before + run.attention_writes[layer]
    block = layout.bridge.blocks[layer]
    norms = [_raw(norm) for norm in (getattr(block, "ln2", None), getattr(block, "ln1", None)) if norm is not None]
    candidates: list[tuple[Literal["middle", "before"], Any]] = []
    for norm in norms:
        candidates += [("middle", norm), ("before", norm)]
    for reads, norm in candidates:
        if _close(norm(middle if reads == "middle" else before), run.mlp_inputs[layer]):
            return reads, norm
    raise NotRecognisedError(f"the MLP of block {layer} reads something that is not known here")


def _reproduces(block: Block, run: Run) -> bool:
    layer = block.layer
    normed = block.normed(run.residual[layer])
    rotary = run.rotary.get(layer)
    queries = block.placed("q", block.project("q", normed), rotary)
    keys = block.for_each_query_head(block.placed("k", block.project("k", normed), rotary))
    values = block.for_each_query_head(block.project("v", normed))
    pattern = block.pattern(queries, keys, 0)
    if not _close(pattern, run.patterns[layer]):
        return False
    z = torch.einsum("bhqk,bkhd->bqhd", pattern, values)  # [prompts, positions, heads, d_head]
    write = block.attention_write(block.output(z))
    after = block.after(run.residual[layer], write)
    following = run.residual[layer + 1] if layer + 1 < len(run.residual) else run.final
    return _close(write, run.attention_writes[layer]) and _close(after, following)


def _windows(original: Any) -> list[int]:
    """How far back this attention may look, by its own word or by its configuration's; 0 for no limit."""
    said = (
        getattr(original, "sliding_window", None),
        getattr(getattr(original, "config", None), "sliding_window", None),
    )
    return [int(window) for window in said if isinstance(window, int)] + [0]


def _mlp(block: Any, rows: Tensor) -> Tensor:
    original = _raw(block.mlp)
    if isinstance(original, type(_raw(block))):  # OPT keeps its MLP's parts in the block itself
        hidden = _raw(block).activation_fn(_raw(getattr(block.mlp, "in"))(rows))
        result = _raw(block.mlp.out)(hidden)
    else:
        result = original(rows)
    written: Tensor = result[0] if isinstance(result, tuple) else result
    return written


def _turn_halves(rows: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding that pairs dimension i with i + half (Llama, NeoX); only the first dimensions are turned."""
    width = cosine.shape[-1]
    turned, rest = rows[..., :width], rows[..., width:]
    low, high = turned.chunk(2, dim=-1)
    other = torch.cat((-high, low), dim=-1)
    return torch.cat((turned * cosine[..., None, :] + other * sine[..., None, :], rest), dim=-1)


def _turn_pairs(rows: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding that pairs neighbouring dimensions (GPT-J)."""
    width = cosine.shape[-1]
    turned, rest = rows[..., :width], rows[..., width:]
    even, odd = turned[..., ::2], turned[..., 1::2]
    other = torch.stack((-odd, even), dim=-1).flatten(-2)
    return torch.cat((turned * cosine[..., None, :] + other * sine[..., None, :], rest), dim=-1)


def _close(got: Tensor, expected: Tensor) -> bool:
    if got.shape != expected.shape:
        return False
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-3}.get(expected.dtype, 1e-1)
    scale = float(expected.abs().max()) or 1.0
    return float((got - expected).abs().max()) <= tolerance * scale


def _raw(module: Any) -> Any:
    """The model's own module behind a bridge component."""
    return getattr(module, "original_component", module) if module is not None else None
