"""Gaps: how far apart two ways of ablating leave the logit difference, as a share of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from circuit_assertions.measures.declaring import Asked
from circuit_assertions.measures.head_sets import HeadSet
from circuit_assertions.measures.searching import Question
from circuit_assertions.measures.shares import Array, above_zero, shares_of

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Pass

__all__ = ["both_ways", "gaps", "pairs"]


def pairs(questions: Sequence[Question], removed: Sequence[HeadSet]) -> dict[str, Any]:
    """What `both_ways` reads: for each question the two sets to ablate, K among both."""
    return {"pairs": [question.ablated(heads) for question, heads in zip(questions, removed, strict=True)]}


def both_ways(taken: Pass, asked: Asked[Any]) -> Tensor:
    """Logit difference of the model, and without the one and the other set of each pair [prompts, 1 + 2 pairs]."""
    from circuit_assertions.measures.replacing import whole_and_without

    sets = [side for pair in asked.prepared["pairs"] for side in pair]
    return whole_and_without(taken, sets, asked.operands.ablation)


def gaps(columns: Array) -> Array:
    """|F without the one - F without the other| of each pair as a share of F [prompts, pairs]."""
    return above_zero(shares_of(columns[:, 0], columns[:, 1::2] - columns[:, 2::2]))
