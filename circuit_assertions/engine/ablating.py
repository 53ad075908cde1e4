"""Runs without sets of heads, many sets at once: what sets have in common is computed once.

Searches ablate hundreds of sets that differ in a head or two. Two runs that ablate the same heads up to a layer are one
run up to that layer's attention, and part where one of them puts out what the other does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_assertions.engine.changes import put_heads
from circuit_assertions.engine.live import Live
from circuit_assertions.heads import Head

__all__ = ["Ablated", "alike_together"]

Chosen = tuple[tuple[int, ...], ...]  # of each layer the heads that a set ablates


@dataclass(frozen=True)
class Ablated(Live):
    """Runs that part where their sets of heads do."""

    def final_without(self, sets: Sequence[Sequence[Head]], replacement: Sequence[Tensor], end: Tensor) -> Tensor:
        """The final residual stream at `end` [prompts] without the heads of each set [sets, prompts, d_model].

        Args:
            sets: ablating no head below `layer`.
            replacement: a layer each, what to put in the place of head outputs [prompts, positions, heads, d_head].
        """
        chosen = [_by_layer(heads, len(self.blocks)) for heads in sets]
        prompts = torch.arange(len(end), device=end.device)
        rows = self.clean.residual[self.layer][None]  # [runs, prompts, positions, d_model]
        run_of = [0] * len(sets)
        for block in self.blocks[self.layer :]:
            parting = [(run, heads[block.layer]) for run, heads in zip(run_of, chosen, strict=True)]
            runs = list(dict.fromkeys(parting))
            parents = [run for run, _ in runs]
            z = self._attend(block, rows)[parents]
            z = put_heads([heads for _, heads in runs], replacement[block.layer])(z)
            rows, run_of = rows[parents], [runs.index(one) for one in parting]
            if block is self.blocks[-1]:  # nothing above reads another position
                rows, z = rows[:, prompts, end], z[:, prompts, end]
            middle = rows + block.attention_write(block.output(z))
            rows = middle + block.mlp_write(middle if block.reads == "middle" else rows)
        return rows[run_of]


def alike_together(sets: Sequence[Sequence[Head]], layers: int) -> list[int]:
    """The numbers of the sets but for empty ones, those that ablate the same heads in low layers side by side."""
    chosen = {number: _by_layer(heads, layers) for number, heads in enumerate(sets) if heads}
    return sorted(chosen, key=lambda number: chosen[number])


def _by_layer(heads: Sequence[Head], layers: int) -> Chosen:
    ordered = sorted(heads)
    return tuple(tuple(head.head for head in ordered if head.layer == layer) for layer in range(layers))
