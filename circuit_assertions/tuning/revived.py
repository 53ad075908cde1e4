"""Revival by fine-tuning: after how many small steps on little data a model shows half of the old behaviour again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from circuit_assertions.engine.training import Course, Training
from circuit_assertions.measures.figures import Array, Figure, bounded
from circuit_assertions.measures.intervals import Interval, Level, students_reach

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Ratio", "Revival", "beyond", "ratio_of", "revive"]


@dataclass(frozen=True)
class Revival:
    """One model, fine-tuned several times.

    Attributes:
        curves: of each seed, the number of steps and the behaviour [prompts] at each look, as a share of the
            baseline's mean; no prompt counts for more than all of it.
        half: the mean share that is waited for.
        steps: after how many a run ended that did not get there.
    """

    curves: tuple[tuple[tuple[int, Array], ...], ...]
    half: float
    steps: int

    @property
    def to_half(self) -> tuple[float | None, ...]:
        """Steps to half of each seed, between two looks by a straight line; None where it was not reached and kept."""
        return tuple(
            _crossing([(done, float(values.mean())) for done, values in curve], self.half) for curve in self.curves
        )

    @property
    def reached(self) -> bool:
        """Whether every seed reached half."""
        return None not in self.to_half

    @property
    def typical(self) -> float | None:
        """Geometric mean of the steps to half; None where a seed did not reach it."""
        found = [one for one in self.to_half if one is not None]
        return float(np.exp(np.mean(np.log(np.maximum(found, 1))))) if self.reached else None

    @property
    def last(self) -> Array:
        """The behaviour at the last look, the mean over seeds [prompts]."""
        mean: Array = np.mean([curve[-1][1] for curve in self.curves], axis=0)
        return mean


@dataclass(frozen=True)
class Ratio:
    """Steps to half of the model over those of the control.

    Attributes:
        mean: the geometric mean over seeds.
        at_most: whether the control did not get there in a run, so that the ratio is at most this.
        at_least: whether the model did not get there, so that it is at least this.
    """

    mean: float
    interval: Interval
    at_most: bool
    at_least: bool


def revive(
    training: Training,
    whole: float,
    half: float,
    course: Course,
    seeds: Sequence[int],
    tell: Callable[[str, int, int], None],
    called: str,
) -> Revival:
    """Fine-tune a model in memory, once for each seed, until half of the behaviour is there or the steps are over.

    Args:
        whole: the baseline's mean answer metric on the prompts that are asked.
        half: the share of it that is waited for.
    """

    def share(values: Tensor) -> Array:
        return bounded(values.numpy(), whole) / whole

    curves = []
    for number, seed in enumerate(seeds):
        looks = []
        for done, values in training.run(course, seed, _twice(lambda values: float(share(values).mean()) >= half)):
            tell(f"reviving {called}", number * course.steps + done, len(seeds) * course.steps)
            looks.append((done, share(values)))
        curves.append(tuple(looks))
    tell(f"reviving {called}", len(seeds) * course.steps, len(seeds) * course.steps)
    return Revival(tuple(curves), half, course.steps)


def ratio_of(model: Revival, control: Revival, level: Level) -> Ratio | None:
    """Steps to half of a model over those of the control, seed by seed; None where neither got there in any run.

    A run that did not get there is taken to have got there at its end.
    """
    pairs = list(zip(model.to_half, control.to_half, strict=True))
    if all(one is None and other is None for one, other in pairs):
        return None
    logs = [
        math.log(max(model.steps if one is None else one, 1) / max(control.steps if other is None else other, 1))
        for one, other in pairs
    ]
    mean, spread = float(np.mean(logs)), float(np.std(logs, ddof=1))
    reach = students_reach(level, len(logs)) * spread / math.sqrt(len(logs))
    return Ratio(
        math.exp(mean),
        Interval(math.exp(mean - reach), math.exp(mean + reach)),
        at_most=not control.reached,
        at_least=not model.reached,
    )


def beyond(model: Revival, control: Revival, level: Level) -> Figure:
    """How much more the model regained than the control at the end, as a share of the baseline's behaviour."""
    return Figure.of_values(model.last - control.last, level)


def _twice(enough: Callable[[Tensor], bool]) -> Callable[[Tensor], bool]:
    """Whether it was enough at this look and at the one before."""
    before = [False]

    def also(values: Tensor) -> bool:
        now = enough(values)
        both = now and before[0]
        before[0] = now
        return both

    return also


def _crossing(curve: Sequence[tuple[int, float]], half: float) -> float | None:
    """Where a curve gets to half and is still there at the next look; a single look may be chance."""
    above = [value >= half for _, value in curve]
    for place, (now, following) in enumerate(pairwise(above)):
        if now and following:
            if place == 0:
                return 0.0
            (before, low), (after, high) = curve[place - 1], curve[place]
            return before + (after - before) * (half - low) / (high - low)
    return None
