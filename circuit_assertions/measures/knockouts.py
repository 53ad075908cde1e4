"""Knock-outs: what is lost without a set of heads, and what is left with it alone. One value per prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from circuit_assertions.engine import Pass
from circuit_assertions.heads import Head
from circuit_assertions.measures.head_sets import outside, random_sets
from circuit_assertions.measures.replacing import whole_and_without
from circuit_assertions.measures.shares import Array, shares_of

__all__ = [
    "ablation_effect",
    "faithfulness",
    "faithfulness_over_random",
    "faithfulness_parts",
    "over_random",
    "ratio_to_first",
]


def ablation_effect(taken: Pass, heads: Sequence[Head], operands: Mapping[str, Any]) -> Tensor:
    """Logit difference lost when the heads of the set are ablated together [prompts]."""
    whole, left = whole_and_without(taken, [frozenset(operands["set"])], operands["ablation"]).T
    lost: Tensor = whole - left
    return lost


def faithfulness(taken: Pass, heads: Sequence[Head], operands: Mapping[str, Any]) -> Tensor:
    """Logit difference of the whole model and of the set alone [prompts, 2]; `ratio_to_first` makes a share of them."""
    return whole_and_without(taken, [outside(taken.model, operands["set"])], operands["ablation"])


def faithfulness_over_random(taken: Pass, heads: Sequence[Head], operands: Mapping[str, Any]) -> Tensor:
    """Logit difference of the whole model, of the set, and of matched random sets [prompts, 2 + sets]."""
    sets = [operands["set"], *random_sets(taken.model, operands["set"])]
    return whole_and_without(taken, [outside(taken.model, kept) for kept in sets], operands["ablation"])


def ratio_to_first(columns: Array, operands: Mapping[str, Any]) -> Array:
    """Second column over the first, as a ratio of means [prompts]."""
    return shares_of(columns[:, 0], columns[:, 1:2])[:, 0]


def over_random(columns: Array, operands: Mapping[str, Any]) -> Array:
    """The second column's ratio to the first, less the mean of the further columns' ratios [prompts]."""
    own, random = faithfulness_parts(columns, operands).values()
    above: Array = own - random
    return above


def faithfulness_parts(columns: Array, operands: Mapping[str, Any]) -> dict[str, Array]:
    """What `over_random` is the difference of, each [prompts]."""
    shares = shares_of(columns[:, 0], columns[:, 1:])  # [prompts, 1 + sets]
    return {"this circuit": shares[:, 0], "random circuits": shares[:, 1:].mean(axis=1)}
