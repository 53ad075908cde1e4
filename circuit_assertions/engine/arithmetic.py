"""A transformer block as arithmetic on rows.

Path patching moves many patched residual rows through the same blocks. This file computes what a block makes of any
rows, with the model's own modules, without running the model; `recognising` finds out what differs between models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from circuit_assertions.engine.layout import Layout
from circuit_assertions.engine.memory import in_pieces, piece_of_rows
from circuit_assertions.engine.module_calls import apply, apply_norm
from circuit_assertions.engine.work import add_rows

__all__ = ["Block", "Projection", "Turn", "raw"]

Projection = Literal["q", "k", "v"]
# Rows [..., n, d_head], cosine and sine [..., rotated] -> turned rows.
Turn = Callable[[Tensor, Tensor, Tensor], Tensor]


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
    _parts: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def after(self, before: Tensor, attention_write: Tensor) -> Tensor:
        """The residual stream leaving the block, for rows entering it and what attention adds, both [..., d_model]."""
        middle = before + attention_write
        return middle + self.mlp_write(middle if self.reads == "middle" else before)

    def mlp_write(self, rows: Tensor) -> Tensor:
        """What the MLP adds, for the rows that it reads [..., d_model]."""
        flat = rows.reshape(-1, rows.shape[-1])  # [rows, d_model]
        add_rows(len(flat))
        written = torch.empty_like(flat)
        for piece, fits in in_pieces(range(len(flat)), self.rows_together(flat)):
            span = slice(piece[0], piece[-1] + 1)
            with fits:
                written[span] = self._mlp_write(flat[span])
        return written.view(rows.shape)

    def rows_together(self, rows: Tensor) -> int:
        """How many of these rows [rows, d_model] should go through the MLP at a time."""
        # The hidden layer, its gate, and what an activation makes on the way; the rows, normed, read and written.
        numbers = 4 * self._hidden + 4 * rows.shape[-1]
        return piece_of_rows(rows.device, rows.element_size() * numbers)

    def attention_write(self, outputs: Tensor) -> Tensor:
        """What attention adds, for its outputs before any post-norm [..., d_model]."""
        return apply_norm(self._after_attention, outputs)

    def normed(self, rows: Tensor) -> Tensor:
        """What queries, keys and values are projected from, for rows entering the block [..., d_model]."""
        return apply_norm(self._before_attention, rows)

    def project(self, which: Projection, normed: Tensor) -> Tensor:
        """Queries [..., heads, d_head], or keys or values [..., groups, d_head], before norm, clamp and rotation."""
        flat = apply(self._of_attention(which), normed)
        return flat.view(*flat.shape[:-1], -1, self.layout.d_head(self.layer))

    def placed(self, which: Projection, projected: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """Queries, keys or values as attention takes them: clamped, queries and keys normed before and turned after.

        Args:
            projected: [..., heads, d_head]
            rotary: cosine and sine at each row's position [..., rotated], broadcastable to the rows; values take none.
        """
        norm = None if which == "v" else self._of_attention(f"{which}_norm")
        if norm is not None:
            weight = getattr(norm, "weight", None)  # some norms have none
            together = 1 if weight is None else weight.shape[-1] // projected.shape[-1]
            if weight is not None and weight.dim() == 2:  # weights of each group's own (Cohere)
                projected = _normed_apart(norm, projected, len(weight))
            else:
                projected = (
                    apply_norm(norm, projected) if together == 1 else _normed_together(norm, projected, together)
                )
        projected = self.layout.clamped(self.layer, projected)
        return projected if self.turn is None or rotary is None else self.turn(projected, *rotary)

    def pattern(self, queries: Tensor, keys: Tensor, first: int, earlier: Tensor | None = None) -> Tensor:
        """Attention of queries at positions `first` and following over keys from position 0.

        Args:
            queries: [..., queries, heads, d_head]
            keys: [..., keys, heads, d_head], one for each query head
            earlier: keys that come before those, broadcastable to them and never copied for each variant.

        Returns:
            [..., heads, queries, earlier and other keys]
        """
        scores = torch.einsum("...qhd,...khd->...hqk", queries, keys)
        if earlier is not None:
            before = torch.einsum("...qhd,...khd->...hqk", queries, earlier)
            scores = torch.cat((before.expand(*scores.shape[:-1], -1), scores), dim=-1)
        scores = scores * self.scale
        if self.softcap > 0:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        at = torch.arange(first, first + queries.shape[-3], device=queries.device)[:, None]
        seen = torch.arange(scores.shape[-1], device=queries.device)[None, :]
        hidden = seen > at if not self.window else (seen > at) | (seen <= at - self.window)  # [queries, keys]
        scores = scores.masked_fill(hidden, float("-inf"))
        return scores.softmax(dim=-1, dtype=self.softmax).to(queries.dtype)

    def attend(self, rows: Tensor, rotary: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Attention of whole prompts entering the block, and its heads' outputs.

        Args:
            rows: [prompts, positions, d_model]
            rotary: cosine and sine at each position [1, positions, rotated].

        Returns:
            pattern [prompts, heads, query positions, key positions], head outputs [prompts, positions, heads, d_head]
        """
        normed = self.normed(rows)
        queries = self.placed("q", self.project("q", normed), rotary)
        keys = self.for_each_query_head(self.placed("k", self.project("k", normed), rotary))
        values = self.for_each_query_head(self.placed("v", self.project("v", normed), None))
        pattern = self.pattern(queries, keys, 0)
        return pattern, torch.einsum("bhqk,bkhd->bqhd", pattern, values)

    def for_each_query_head(self, grouped: Tensor, dim: int = -2) -> Tensor:
        """Keys or values of groups [..., key-value heads, d_head] repeated for each query head [..., heads, d_head]."""
        return grouped.repeat_interleave(self.layout.heads // grouped.shape[dim], dim=dim)

    def output(self, z: Tensor) -> Tensor:
        """The attention block's output before any post-norm, for all heads' outputs [..., heads, d_head]."""
        return apply(self._of_attention("o"), z.flatten(-2))

    def _of_attention(self, name: str) -> Any:
        """The model's own module of that name in the attention; None where there is none."""
        if name not in self._parts:  # looking a part up through the bridge takes as long as a small matrix product
            self._parts[name] = raw(getattr(self.layout.bridge.blocks[self.layer].attn, name, None))
        return self._parts[name]

    @cached_property
    def _before_attention(self) -> Any:
        return raw(self.layout.attention_norm(self.layer))

    @cached_property
    def _after_attention(self) -> Any:
        return raw(self.layout.attention_post_norm(self.layer))

    @cached_property
    def _after_mlp(self) -> Any:
        return raw(self.layout.mlp_post_norm(self.layer))

    @cached_property
    def _hidden(self) -> int:
        """How wide the MLP gets inside."""
        mlp = raw(self.layout.bridge.blocks[self.layer].mlp)
        return max(int(max(weight.shape)) for weight in mlp.parameters() if weight.dim() > 1)

    def _mlp_write(self, rows: Tensor) -> Tensor:
        """The same for rows [rows, d_model] at once."""
        block = self.layout.bridge.blocks[self.layer]
        normed = apply_norm(self.mlp_norm, rows)[None]  # a mixture of experts routes [batch, positions, d_model]
        return apply_norm(self._after_mlp, _mlp(block, normed))[0]


def _normed_together(norm: Any, rows: Tensor, groups: int) -> Tensor:
    """Norm a vector that all groups share (OLMo 2), rows [..., groups or heads, d_head].

    Keys repeated for each query head are normed as if the model had as many copies of its groups as heads share one.
    """
    copies = _copies(rows, groups)
    normed = apply_norm(norm, copies.flatten(-2)).view(copies.shape)
    return normed.transpose(-3, -2).flatten(-3, -2)


def _normed_apart(norm: Any, rows: Tensor, groups: int) -> Tensor:
    """Norm vectors with weights of their group's own, rows [..., groups or heads, d_head]."""
    return apply_norm(norm, _copies(rows, groups)).transpose(-3, -2).flatten(-3, -2)


def _copies(rows: Tensor, groups: int) -> Tensor:
    """Rows of groups, or of heads that share them [..., groups or heads, d_head] -> [..., copies, groups, d_head]."""
    return rows.reshape(*rows.shape[:-2], groups, -1, rows.shape[-1]).transpose(-3, -2)


def _mlp(block: Any, rows: Tensor) -> Tensor:
    original = raw(block.mlp)
    if not isinstance(original, type(raw(block))):
        return apply(original, rows)
    # OPT keeps its MLP's parts in the block itself.
    hidden = raw(block).activation_fn(apply(raw(getattr(block.mlp, "in")), rows))
    return apply(raw(block.mlp.out), hidden)


def raw(module: Any) -> Any:
    """The model's own module behind a bridge component."""
    return getattr(module, "original_component", module) if module is not None else None
