"""The residual stream entering each block at some positions of each prompt: what its heads read, before the norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_assertions.tasks import Prompt

__all__ = ["Entering", "Place", "places_of"]

Place = str | None  # a label of the task, or None for wherever an answer stands


@dataclass(frozen=True)
class Entering:
    """What enters each block.

    Attributes:
        blocks: a layer each [prompts, slots, d_model].
        slots: in which slot a position is kept [prompts, positions]; -1 where it is not.
        places: which places are kept; None for every position.
    """

    blocks: Sequence[Tensor]
    slots: Tensor
    places: frozenset[Place] | None = None

    @classmethod
    def whole(cls, residual: Sequence[Tensor]) -> Entering:
        """Of a run of which everything is kept, without a copy.

        Args:
            residual: the residual stream entering each block [prompts, positions, d_model].
        """
        prompts, positions = residual[0].shape[:2]
        return cls(residual, torch.arange(positions).expand(prompts, positions))

    def at(self, layer: int, prompts: Tensor, positions: Tensor) -> Tensor:
        """Rows that enter a block.

        Args:
            prompts, positions: of each row [rows].

        Returns:
            [rows, d_model], where the block is.
        """
        block = self.blocks[layer]
        slots = self.slots[prompts.cpu(), positions.cpu()]  # [rows]
        assert bool((slots >= 0).all()), "only positions that were wanted are kept"
        return block[prompts.to(block.device), slots.to(block.device)]


def places_of(prompts: Sequence[Prompt], places: frozenset[Place]) -> tuple[Tensor, Tensor]:
    """Which positions are kept of prompts of equal length, and in which slot.

    Returns:
        positions [prompts, slots], padded with position 0, and the slot of each position [prompts, positions].
    """
    kept = [sorted({place for each in places for place in _where(prompt, each)}) for prompt in prompts]
    most = max(1, *map(len, kept))
    positions = torch.zeros(len(prompts), most, dtype=torch.long)
    slots = torch.full((len(prompts), len(prompts[0].tokens)), -1)
    for row, own in enumerate(kept):
        positions[row, : len(own)] = torch.tensor(own, dtype=torch.long)
        slots[row, own] = torch.arange(len(own))
    return positions, slots


def _where(prompt: Prompt, place: Place) -> tuple[int, ...]:
    return prompt.answers_at if place is None else (prompt.positions[place],)
