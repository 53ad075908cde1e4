"""The rest of a forward pass, for many variants of it at once, from the first layer and position that differ.

A variant is the clean run with something put in its place: a receiver's query, key or value, a head's output or
pattern, an MLP's output. Below the first changed layer and before the first changed position nothing differs, so
neither is computed again; earlier positions only lend their keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from circuit_assertions.engine.arithmetic import Block
from circuit_assertions.engine.cache import Run

__all__ = ["Change", "Live", "Point"]

Point = Literal["residual", "q", "k", "v", "pattern", "z", "attention", "mlp"]
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Live:
    """Variants of a run, computed from `layer` and position `first` on.

    Attributes:
        changes: at a layer and point, what to put in the place of the live value. Each gets and returns
            `residual`, `mlp`, `attention` (before any post-norm) [variants, prompts, suffix, d_model], `q`, `k`, `v`,
            `z` [variants, prompts, suffix, heads, d_head] (keys and values before norm and rotation, repeated for each
            query head, so that one head can be given its own), `pattern` [variants, prompts, heads, suffix, positions].
    """

    blocks: Sequence[Block]
    clean: Run
    layer: int
    first: int
    variants: int
    changes: Mapping[tuple[int, Point], Change] = field(default_factory=dict)

    def final(self) -> Tensor:
        """The final residual stream [variants, prompts, suffix, d_model]."""
        # One row stands for all variants until something is put in that tells them apart.
        rows = self.clean.residual[self.layer][None, :, self.first :]
        for block in self.blocks[self.layer :]:
            rows = self._through(block, rows)
        return rows.expand(self.variants, *rows.shape[1:])

    def _through(self, block: Block, rows: Tensor) -> Tensor:
        layer = block.layer
        rows = self._changed(layer, "residual", rows)
        z = self._changed(layer, "z", self._attend(block, rows))
        middle = rows + block.attention_write(self._changed(layer, "attention", block.output(z)))
        read = middle if block.reads == "middle" else rows
        return middle + self._changed(layer, "mlp", block.mlp_write(read))

    def _attend(self, block: Block, rows: Tensor) -> Tensor:
        """The heads' outputs [variants, prompts, suffix, heads, d_head]."""
        normed = block.normed(rows)
        suffix, prefix = self._rotary(block.layer)
        queries = block.placed("q", self._changed(block.layer, "q", block.project("q", normed)), suffix)
        keys = self._grouped(block, "k", normed, suffix)
        values = self._grouped(block, "v", normed, None)
        if not self.first:
            pattern = self._changed(block.layer, "pattern", block.pattern(queries, keys, 0))
            return torch.einsum("...hqk,...khd->...qhd", pattern, values)
        earlier = block.normed(self.clean.residual[block.layer][None, :, : self.first])  # [1, prompts, prefix, d_model]
        earlier_keys = block.for_each_query_head(block.placed("k", block.project("k", earlier), prefix))
        earlier_values = block.for_each_query_head(block.project("v", earlier))
        pattern = self._changed(block.layer, "pattern", block.pattern(queries, keys, self.first, earlier_keys))
        return torch.einsum("...hqk,...khd->...qhd", pattern[..., : self.first], earlier_values) + torch.einsum(
            "...hqk,...khd->...qhd", pattern[..., self.first :], values
        )

    def _grouped(
        self, block: Block, which: Literal["k", "v"], normed: Tensor, rotary: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Keys or values of the suffix, for each query head [variants, prompts, suffix, heads, d_head]."""
        projected = block.project(which, normed)
        if (block.layer, which) in self.changes:
            projected = self._changed(block.layer, which, block.for_each_query_head(projected))
            return block.placed("k", projected, rotary) if which == "k" else projected
        placed = block.placed("k", projected, rotary) if which == "k" else projected
        return block.for_each_query_head(placed)

    def _rotary(self, layer: int) -> tuple[tuple[Tensor, Tensor] | None, tuple[Tensor, Tensor] | None]:
        """Cosine and sine of the suffix and of the prefix."""
        if layer not in self.clean.rotary:
            return None, None
        cosine, sine = self.clean.rotary[layer]
        return (
            (cosine[:, self.first :], sine[:, self.first :]),
            (cosine[:, : self.first], sine[:, : self.first]),
        )

    def _changed(self, layer: int, point: Point, value: Tensor) -> Tensor:
        change = self.changes.get((layer, point))
        return value if change is None else change(value.expand(self.variants, *value.shape[1:]))
