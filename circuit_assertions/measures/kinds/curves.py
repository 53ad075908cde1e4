"""Circuits of every size, from the head that matters most to the whole model, and the area under what they do.

The areas of the Mechanistic Interpretability Benchmark (Mueller et al. 2025, arXiv 2504.13151) over circuits of heads:
there the unit is an edge and the size a share of all edges, here both are heads, and MLPs always stay.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from circuit_assertions.measures.ablations import ABLATED, HALVES, Ablation
from circuit_assertions.measures.declaring import CAUSAL, Asked, Prepared, measure
from circuit_assertions.measures.head_sets import RANDOM_SETS, outside
from circuit_assertions.measures.operands import Operands
from circuit_assertions.measures.shares import Array, above_zero, shares_of
from circuit_assertions.tasks import TO_PATCH

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Pass
    from circuit_assertions.measures.sweeping import Sweep

__all__ = [
    "circuit_model_distance",
    "circuit_model_distance_over_random",
    "circuit_performance_ratio",
    "circuit_performance_ratio_over_random",
    "sizes",
]

PER_MILLE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # of the heads: the sizes of the benchmark
_LEVEL = 6  # digits to which effects are told apart, so that the order of sums decides no rank
_UNIT = "area over circuit sizes"
_MIB = "Mueller et al. 2025, arXiv 2504.13151"
_HEADS = "node level, where the benchmark counts edges: heads, every other head ablated; MLPs stay"


class Ranked(Operands):
    """How heads are ranked, and what replaces the output of the others."""

    ablation: Ablation = Field("resample", description=ABLATED)
    ranked_by: Literal["path-effect", "total-effect"] = Field("path-effect", description="which heads come first")


def sizes(heads: int) -> list[int]:
    """How many of a model's heads each circuit has, rounded up; small models have some sizes several times."""
    return [-(-share * heads // 1000) for share in PER_MILLE]


def _rank(sweep: Sweep, asked: Asked[Ranked]) -> Prepared:
    """Rank the heads by how much they do to the logits, whichever way."""
    effects = np.abs(sweep.effects(asked.operands.ranked_by))
    level = np.round(effects / max(float(effects.max()), np.finfo(float).tiny), _LEVEL)
    everyone = list(sweep.model.layout.all_heads())
    ranking = [everyone[index] for index in np.argsort(-level, kind="stable")]
    return Prepared({"rankings": [ranking]}, {"ranking": ", ".join(str(head) for head in ranking)})


def _rank_random_too(sweep: Sweep, asked: Asked[Ranked]) -> Prepared:
    """The same, and ten random rankings of all heads, always the same."""
    ranked = _rank(sweep, asked)
    rng = random.Random(0)
    everyone = sorted(sweep.model.layout.all_heads())
    others = [rng.sample(everyone, len(everyone)) for _ in range(RANDOM_SETS)]
    return Prepared({"rankings": [*ranked.values["rankings"], *others]}, ranked.found)


def _by_size(taken: Pass, asked: Asked[Ranked]) -> Tensor:
    """Logit difference of the model, without any head, and of every size of each ranking [prompts, 2 + circuits]."""
    from circuit_assertions.measures.replacing import whole_and_without

    circuits = [ranking[:size] for ranking in asked.prepared["rankings"] for size in sizes(len(ranking))]
    return whole_and_without(taken, [outside(taken.model, kept) for kept in ((), *circuits)], asked.operands.ablation)


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


def _parts(areas: Array) -> dict[str, Array]:
    return {"this ranking": areas[:, 0], "random rankings": areas[:, 1:].mean(axis=1)}


def _ratio(columns: Array, asked: Asked[Ranked]) -> Array:
    """The area under f [prompts]."""
    return _ratios(columns)[:, 0]


def _distance(columns: Array, asked: Asked[Ranked]) -> Array:
    """The area between f and 1 [prompts]."""
    return _distances(columns)[:, 0]


def _ratio_parts(columns: Array, asked: Asked[Ranked]) -> dict[str, Array]:
    """What `circuit-performance-ratio-over-random` is the difference of, each [prompts]."""
    return _parts(_ratios(columns))


def _distance_parts(columns: Array, asked: Asked[Ranked]) -> dict[str, Array]:
    """What `circuit-model-distance-over-random` is the difference of, each [prompts]."""
    return _parts(_distances(columns))


def _ratio_over_random(columns: Array, asked: Asked[Ranked]) -> Array:
    """The area under f less the mean of the random rankings' [prompts]; above zero is better than random."""
    own, others = _ratio_parts(columns, asked).values()
    above: Array = own - others
    return above


def _distance_over_random(columns: Array, asked: Asked[Ranked]) -> Array:
    """The area between f and 1 less the mean of the random rankings' [prompts]; below zero is better than random."""
    own, others = _distance_parts(columns, asked).values()
    above: Array = own - others
    return above


@measure(
    "circuit-performance-ratio",
    kind="model",
    operands=Ranked,
    unit=_UNIT,
    help="area under f = (m(C) - m(no head)) / (m(model) - m(no head)) over circuits of the 0.1, 0.2, 0.5, 1, 2, 5, "
    "10, 20, 50 and 100 % of heads with the largest effects on the logits, sizes rounded up, by the trapezoid rule "
    f"over these shares. Heads are ranked {HALVES}which favours them",
    source=f"{_MIB} (CPR; {_HEADS})",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching", "whole_templates"),
    of_means=True,  # a ratio of means: single prompts may lie below
    prepare=_rank,
    finish=_ratio,
)
def circuit_performance_ratio(taken: Pass, asked: Asked[Ranked]) -> Tensor:
    """Logit differences of circuits by size [prompts, 2 + circuits]."""
    return _by_size(taken, asked)


@measure(
    "circuit-model-distance",
    kind="model",
    operands=Ranked,
    unit=_UNIT,
    help="area between f and 1 over the circuits of circuit-performance-ratio; 0 is best, and values above 1 count "
    "like values below 1",
    source=f"{_MIB} (CMD; {_HEADS})",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching", "whole_templates"),
    lowest=0,
    of_means=True,
    prepare=_rank,
    finish=_distance,
)
def circuit_model_distance(taken: Pass, asked: Asked[Ranked]) -> Tensor:
    """Logit differences of circuits by size [prompts, 2 + circuits]."""
    return _by_size(taken, asked)


@measure(
    "circuit-performance-ratio-over-random",
    kind="model",
    operands=Ranked,
    unit=_UNIT,
    help="circuit-performance-ratio minus that of random rankings of all heads (ten, seeded); above 0 is better",
    source="a control for circuit-performance-ratio: circuits of the same sizes",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching", "whole_templates"),
    of_means=True,
    prepare=_rank_random_too,
    finish=_ratio_over_random,
    beside=_ratio_parts,
)
def circuit_performance_ratio_over_random(taken: Pass, asked: Asked[Ranked]) -> Tensor:
    """The same of several rankings [prompts, 2 + circuits]."""
    return _by_size(taken, asked)


@measure(
    "circuit-model-distance-over-random",
    kind="model",
    operands=Ranked,
    unit=_UNIT,
    help="circuit-model-distance minus that of random rankings of all heads (ten, seeded); below 0 is better",
    source="a control for circuit-model-distance: circuits of the same sizes",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching", "whole_templates"),
    of_means=True,
    prepare=_rank_random_too,
    finish=_distance_over_random,
    beside=_distance_parts,
)
def circuit_model_distance_over_random(taken: Pass, asked: Asked[Ranked]) -> Tensor:
    """The same of several rankings [prompts, 2 + circuits]."""
    return _by_size(taken, asked)
