"""Gaps: how far apart two ways of ablating leave the logit difference, as a share of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from circuit_assertions.engine import Pass
from circuit_assertions.heads import Head
from circuit_assertions.measures.replacing import HeadSet, whole_and_without
from circuit_assertions.measures.searching import Question
from circuit_assertions.measures.shares import Array, above_zero, shares_of

__all__ = ["both_ways", "gaps", "pairs"]


def pairs(questions: Sequence[Question], removed: Sequence[HeadSet]) -> dict[str, Any]:
    """The operand that `both_ways` reads: for each question the two sets to ablate, K among both."""
    return {"pairs": [question.ablated(heads) for question, heads in zip(questions, removed, strict=True)]}


def both_ways(taken: Pass, heads: Sequence[Head], operands: Mapping[str, Any]) -> Tensor:
    """Logit difference of the model, and without the one and the other set of each pair [prompts, 1 + 2 pairs]."""
    return whole_and_without(taken, [side for pair in operands["pairs"] for side in pair], operands["ablation"])


def gaps(columns: Array) -> Array:
    """|F without the one - F without the other| of each pair as a share of F [prompts, pairs]."""
    return above_zero(shares_of(columns[:, 0], columns[:, 1::2] - columns[:, 2::2]))
