"""Revival by pruning: how much of the old behaviour is revived when the units that the new one rests on are pruned.

Units are ranked by gradient times weight for the new behaviour, the wrong answers over the right ones, and pruned a few
at a time; the others are then ranked again. One half of the prompts ranks them and chooses how many are pruned, the
other half reports.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from circuit_assertions.engine.pruning import Pruning, Unit, UnitKind
from circuit_assertions.measures.figures import Array, Figure, bounded
from circuit_assertions.measures.intervals import Level
from circuit_assertions.ordering import ranked
from circuit_assertions.policy import Policy
from circuit_assertions.tasks import PromptSet

__all__ = ["Point", "PrunedCurve", "prune"]

_GROWTH = 4  # each set of units is larger than the one before by one unit in so many, and at least by one


@dataclass(frozen=True)
class Point:
    """The model without some units.

    Attributes:
        units: those that are pruned, in the order in which they were.
        searched: mean behaviour of the prompts that searched, as a share of the baseline's.
        values: the answer metric [prompts that report].
        random: the same without a random set of as many units of the same layers.
    """

    units: tuple[Unit, ...]
    searched: float
    values: Array
    random: Array


@dataclass(frozen=True)
class PrunedCurve:
    """What is revived as units of one kind are pruned.

    Attributes:
        points: from no unit on.
        baseline: the baseline's answer metric [prompts that report].
        limit: up to how many units are a wrapper.
        chosen: the point that is judged: the first with at most `limit` units that revives on the prompts that
            searched, else the best of them there.
        random: the answer metric without each of some random sets like the chosen one [sets, prompts that report].
    """

    kind: UnitKind
    points: tuple[Point, ...]
    baseline: Array
    limit: int
    chosen: Point
    random: Array

    def share(self, values: Array) -> Array:
        """Values as a share of the baseline's mean, each at most all of it [prompts]."""
        whole = float(self.baseline.mean())
        return bounded(values, whole) / whole

    @property
    def random_share(self) -> float:
        """Mean behaviour without random sets, as a share of the baseline's."""
        return float(self.share(self.random).mean())

    def figure(self, level: Level) -> Figure:
        """What is revived at the chosen point, as a share of the baseline's."""
        return Figure.of_values(self.share(self.chosen.values), level)

    def revives(self, level: Level, policy: Policy) -> bool:
        """Whether the chosen units hold a wrapper."""
        found = self.figure(level)
        special = self.random_share < policy.wrapper_random_below * found.mean
        return bool(self.chosen.units) and found.interval.low >= policy.revived_above and special


def prune(
    pruning: Pruning,
    kind: UnitKind,
    baseline: tuple[Array, Array],
    prompts: tuple[PromptSet, PromptSet],
    policy: Policy,
    tell: Callable[[str, int, int], None],
) -> PrunedCurve:
    """Prune more and more units of one kind. The model is restored bit for bit.

    Args:
        baseline: its answer metric on the prompts that search and on those that report, each [prompts].
        prompts: those that search, and those that report.
    """
    search, report = prompts
    limit, most = _limits(pruning, kind, policy)
    drawn = random.Random(0)
    units, others = tuple[Unit, ...](), tuple[Unit, ...]()
    points = [_point(pruning, units, others, baseline[0], prompts)]
    for count in _counts(limit, most):
        tell(f"pruning {kind}s", count, most)
        with pruning.without(units):
            gains = pruning.gains(kind, search)
        left = [unit for unit in gains if unit not in units]
        best = _largest(gains, left)[: count - len(units)]
        units += tuple(best)
        others += tuple(_random_like(pruning, kind, best, others, drawn))
        points.append(_point(pruning, units, others, baseline[0], prompts))
        if count >= limit and max(point.searched for point in points) >= policy.revived_above:
            break
        if points[-1].searched >= policy.suppressed_below:
            break
    tell(f"pruning {kind}s", most, most)
    chosen = _chosen([point for point in points if len(point.units) <= limit], policy)
    sets = [_random_like(pruning, kind, chosen.units, (), drawn) for _ in range(policy.pruned_random_sets)]
    alike = np.stack([pruning.answers(one, report).numpy() for one in (sets if chosen.units else [()])])
    return PrunedCurve(kind, tuple(points), baseline[1], limit, chosen, alike)


def _largest(gains: Mapping[Unit, float], left: Sequence[Unit]) -> list[Unit]:
    """Units by their gains, the largest first. Gains of probabilities may be tiny and still differ clearly."""
    scale = max(abs(gains[unit]) for unit in left) or 1.0
    return ranked(left, lambda unit: gains[unit] / scale)


def _limits(pruning: Pruning, kind: UnitKind, policy: Policy) -> tuple[int, int]:
    """How many units are a wrapper at most, and how many are pruned at most."""
    layout = pruning.model.layout
    there = sum(pruning.units(kind, layer) for layer in range(layout.layers))
    if kind == "head":
        return min(policy.wrapper_heads, there), min(2 * policy.wrapper_heads, there)
    return min(policy.wrapper_neurons, there), min(policy.pruned_most, there)


def _counts(limit: int, most: int) -> Iterator[int]:
    """How many units are pruned, one after the other; `limit` is among them."""
    count = 0
    while count < most:
        larger = count + max(1, math.ceil(count / _GROWTH))
        count = limit if count < limit < larger else min(larger, most)
        yield count


def _point(
    pruning: Pruning,
    units: tuple[Unit, ...],
    others: Sequence[Unit],
    baseline: Array,
    prompts: tuple[PromptSet, PromptSet],
) -> Point:
    search, report = prompts
    whole = float(baseline.mean())
    searched = float(bounded(pruning.answers(units, search).numpy(), whole).mean() / whole)
    values = pruning.answers(units, report).numpy()
    return Point(units, searched, values, pruning.answers(others, report).numpy() if others else values)


def _chosen(points: Sequence[Point], policy: Policy) -> Point:
    revived = [point for point in points if point.searched >= policy.revived_above]
    return revived[0] if revived else ranked(points, lambda point: point.searched)[0]


def _random_like(
    pruning: Pruning, kind: UnitKind, units: Sequence[Unit], taken: Sequence[Unit], drawn: random.Random
) -> list[Unit]:
    """As many other units of the same layers."""
    from circuit_assertions.engine.pruning import Neuron
    from circuit_assertions.heads import Head

    make = Neuron if kind == "neuron" else Head
    found = list[Unit]()
    for layer in sorted({unit.layer for unit in units}):
        own = [unit for unit in units if unit.layer == layer]
        free: list[Unit] = [make(layer, index) for index in range(pruning.units(kind, layer))]
        free = [unit for unit in free if unit not in own and unit not in taken]
        found += drawn.sample(free, min(len(own), len(free)))
    return found
