"""The rest of a forward pass, for many variants of it at once, from the first layer and position that differ.

A variant is the clean run with something put in its place: a receiver's query, key or value, a head's output or
pattern, an MLP's output. Below the first changed layer and before the first changed position nothing differs, so
neither is computed again; earlier positions only provide their keys and values.
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
            `z` [variants, prompts, suffix, heads, d_head] (queries, keys and values as projected, the latter repeated
            for each query head, so that one head can be given its own), `pattern` [variants, prompts, heads, suffix,
            positions].
    """

    blocks: Sequence[Block]
    clean: Run
    layer: int
    first: int
    variants: int
    changes: Mapping[tuple[int, Point], Change] = field(default_factory=dict)

    def final_at(self, places: Sequence[int]) -> Tensor:
        """The final residual stream at one position a prompt [variants, prompts, d_model].

        Args:
            places: each prompt's position, none before `first`.
        """
        # One row stands for all variants until something is put in that tells them apart.
        rows = self.clean.residual[self.layer][None, :, self.first :]
        *below, last = self.blocks[self.layer :]
        for block in below:
            rows = self._through(block, rows)
        if self._is_read_at_once(last.layer, places):
            rows = self._through_at(last, rows, places[0] - self.first)
        else:
            at = torch.tensor(places, device=rows.device) - self.first
            rows = self._through(last, rows)[:, torch.arange(len(places), device=rows.device), at]
        return rows.expand(self.variants, *rows.shape[1:])

    def _is_read_at_once(self, layer: int, places: Sequence[int]) -> bool:
        """Whether a block may leave out other positions: all prompts are read at one, and no change expects them."""
        points: tuple[Point, ...] = ("q", "pattern", "z", "attention", "mlp")
        return len(set(places)) == 1 and not any((layer, point) in self.changes for point in points)

    def _through_at(self, block: Block, rows: Tensor, place: int) -> Tensor:
        """What leaves the last block at one position [variants, prompts, d_model]; others only lend keys and values."""
        rows = self._changed(block.layer, "residual", rows)
        own = slice(place, place + 1)
        z = self._attend(block, rows, own)
        before = rows[:, :, own]
        return block.after(before, block.attention_write(block.output(z)))[:, :, 0]

    def _through(self, block: Block, rows: Tensor) -> Tensor:
        layer = block.layer
        rows = self._changed(layer, "residual", rows)
        z = self._changed(layer, "z", self._attend(block, rows))
        middle = rows + block.attention_write(self._changed(layer, "attention", block.output(z)))
        read = middle if block.reads == "middle" else rows
        return middle + self._changed(layer, "mlp", block.mlp_write(read))

    def _attend(self, block: Block, rows: Tensor, at: slice = slice(None)) -> Tensor:
        """The heads' outputs at some positions of the suffix [variants, prompts, suffix, heads, d_head]."""
        normed = block.normed(rows)
        suffix, prefix = self._rotary(block.layer)
        turned = None if suffix is None else (suffix[0][:, at], suffix[1][:, at])
        start = self.first + (at.start or 0)
        queries = self._changed(block.layer, "q", block.project("q", normed[:, :, at]))
        queries = block.placed("q", queries, turned)
        keys = self._grouped(block, "k", normed, suffix)
        values = self._grouped(block, "v", normed, None)
        if not self.first:
            pattern = self._changed(block.layer, "pattern", block.pattern(queries, keys, start))
            return torch.einsum("...hqk,...khd->...qhd", pattern, values)
        earlier = block.normed(self.clean.residual[block.layer][None, :, : self.first])  # [1, prompts, prefix, d_model]
        earlier_keys = block.for_each_query_head(block.placed("k", block.project("k", earlier), prefix))
        earlier_values = block.for_each_query_head(block.placed("v", block.project("v", earlier), None))
        pattern = self._changed(block.layer, "pattern", block.pattern(queries, keys, start, earlier_keys))
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
            return block.placed(which, projected, rotary)
        return block.for_each_query_head(block.placed(which, projected, rotary))

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
