"""Circuits of every size, from the head that matters most to the whole model, and the area under what they do.

The areas of the Mechanistic Interpretability Benchmark (Mueller et al. 2025, arXiv 2504.13151) over circuits of heads:
there the unit is an edge and the size a share of all edges, here both are heads, and MLPs always stay.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from circuit_assertions.engine import Pass
from circuit_assertions.heads import Head
from circuit_assertions.measures.head_sets import RANDOM_SETS, outside
from circuit_assertions.measures.replacing import whole_and_without
from circuit_assertions.measures.shares import Array, above_zero, shares_of
from circuit_assertions.measures.sweeping import Prepared, Sweep

__all__ = [
    "circuits_by_size",
    "model_distance",
    "model_distance_over_random",
    "model_distance_parts",
    "performance_ratio",
    "performance_ratio_over_random",
    "performance_ratio_parts",
    "rank",
    "rank_random_too",
    "sizes",
]

PER_MILLE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # of the heads: the sizes of the benchmark
_LEVEL = 6  # digits to which effects are told apart, so that the order of sums decides no rank


def sizes(heads: int) -> list[int]:
    """How many of a model's heads each circuit has, rounded up; small models have some sizes several times."""
    return [-(-share * heads // 1000) for share in PER_MILLE]


def rank(sweep: Sweep, heads: Sequence[Head], operands: Mapping[str, Any]) -> Prepared:
    """Rank the heads by how much they do to the logits, whichever way."""
    return Prepared(*_ranked(sweep, operands))


def rank_random_too(sweep: Sweep, heads: Sequence[Head], operands: Mapping[str, Any]) -> Prepared:
    """The same, and ten random rankings of all heads, always the same."""
    ranked, found = _ranked(sweep, operands)
    rng = random.Random(0)
    everyone = sorted(sweep.model.layout.all_heads())
    rankings = [*ranked["rankings"], *(rng.sample(everyone, len(everyone)) for _ in range(RANDOM_SETS))]
    return Prepared({"rankings": rankings}, found)


def circuits_by_size(taken: Pass, heads: Sequence[Head], operands: Mapping[str, Any]) -> Tensor:
    """Logit difference of the model, without any head, and of every size of each ranking [prompts, 2 + circuits]."""
    rankings = operands["rankings"]
    circuits = [ranking[:size] for ranking in rankings for size in sizes(len(ranking))]
    return whole_and_without(taken, [outside(taken.model, kept) for kept in ((), *circuits)], operands["ablation"])


def performance_ratio(columns: Array, operands: Mapping[str, Any]) -> Array:
    """The area under f [prompts]."""
    return _ratios(columns)[:, 0]


def model_distance(columns: Array, operands: Mapping[str, Any]) -> Array:
    """The area between f and 1 [prompts]."""
    return _distances(columns)[:, 0]


def performance_ratio_over_random(columns: Array, operands: Mapping[str, Any]) -> Array:
    """The area under f less the mean of the random rankings' [prompts]; above zero is better than random."""
    own, others = performance_ratio_parts(columns, operands).values()
    above: Array = own - others
    return above


def model_distance_over_random(columns: Array, operands: Mapping[str, Any]) -> Array:
    """The area between f and 1 less the mean of the random rankings' [prompts]; below zero is better than random."""
    own, others = model_distance_parts(columns, operands).values()
    above: Array = own - others
    return above


def performance_ratio_parts(columns: Array, operands: Mapping[str, Any]) -> dict[str, Array]:
    """What `performance_ratio_over_random` is the difference of, each [prompts]."""
    return _parts(_ratios(columns))


def model_distance_parts(columns: Array, operands: Mapping[str, Any]) -> dict[str, Array]:
    """What `model_distance_over_random` is the difference of, each [prompts]."""
    return _parts(_distances(columns))


def _parts(areas: Array) -> dict[str, Array]:
    return {"this ranking": areas[:, 0], "random rankings": areas[:, 1:].mean(axis=1)}


def _ratios(columns: Array) -> Array:
    return _areas(_performance(columns))


def _distances(columns: Array) -> Array:
    return _areas(above_zero(1.0 - _performance(columns)))


def _performance(columns: Array) -> Array:
    """f = (m(C) - m(no head)) / (m(model) - m(no head)) of every circuit, as ratios of means [prompts, circuits]."""
    nothing = columns[:, 1:2]
    return shares_of((columns[:, :1] - nothing)[:, 0], columns[:, 2:] - nothing)


def _areas(heights: Array) -> Array:
    """Areas by the trapezoid rule over the true shares of heads, 0.1 % to 100 % [prompts, rankings]."""
    by_ranking = heights.reshape(len(heights), -1, len(PER_MILLE))
    between: Array = (by_ranking[..., :-1] + by_ranking[..., 1:]) / 2 @ (np.diff(PER_MILLE) / 1000)
    return between


def _ranked(sweep: Sweep, operands: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    effects = np.abs(sweep.effects(operands["ranked-by"]))
    level = np.round(effects / max(float(effects.max()), np.finfo(float).tiny), _LEVEL)
    everyone = list(sweep.model.layout.all_heads())
    ranking = [everyone[index] for index in np.argsort(-level, kind="stable")]
    return {"rankings": [ranking]}, {"ranking": ", ".join(str(head) for head in ranking)}
