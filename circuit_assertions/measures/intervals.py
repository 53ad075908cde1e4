"""Every interval of the package: of a mean over prompts, and of a share of prompts, for several heads at once.

A bootstrap of two thousand resamples has no tail at the level that a correction for a hundred heads needs, and covers
too little where prompts are few. These are computed from formulas:

- of a mean: Student's t, and Hall's t with its correction for skewness (P. Hall, On the removal of skewness by
  transformation, J. R. Stat. Soc. B 54, 1992, 221-228); on either side, whichever reaches further. How often they miss
  is measured by `benchmarks/coverage.py`.
- of a share of prompts: Clopper and Pearson's, which covers whatever the share is (Biometrika 26, 1934, 404-413).
- of a rate less a share of another on the same prompts: Clopper and Pearson's of the shares of prompts with both hits
  and with one of them, with equal parts of the tail. It covers whatever the rates are, and never has zero width.
- of several at once: Bonferroni's correction, so that all of them are covered together. So it is for prompts that are
  drawn in growing batches, at every look of which the intervals hold together: the spending of K. K. G. Lan and D. L.
  DeMets (Biometrika 70, 1983, 659-663) in equal parts, by the sum of the parts, which is valid whatever the readings
  are. With twice the prompts at each look it reaches a few per cent further than bounds for normal readings would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from circuit_assertions.policy import DEFAULT, Policy

__all__ = [
    "ALONE",
    "HOLDS",
    "Interval",
    "Level",
    "interval_of_mean",
    "interval_of_paired_rates",
    "interval_of_share",
    "intervals_of_means",
    "least_prompts",
    "students_reach",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """How sure intervals are: all of `together` hold at once with `confidence`.

    Attributes:
        confidence: from 0 to 1, ends excluded.
        together: how many intervals it is shared out among.
    """

    confidence: float = DEFAULT.confidence
    together: int = 1

    @classmethod
    def of_figures(cls, policy: Policy = DEFAULT) -> Level:
        """What the figures of one verdict of a discovery, a diagnosis or a trajectory share."""
        return cls(policy.figure_confidence)

    def among(self, count: int) -> Level:
        """The level of each of so many intervals that share this one."""
        return Level(self.confidence, self.together * count)

    @property
    def tail(self) -> float:
        """The chance that one end of one interval misses."""
        return (1 - self.confidence) / (2 * self.together)

    @property
    def of_one(self) -> float:
        """The confidence of a single interval."""
        return 1 - 2 * self.tail


ALONE = Level()  # of an interval that shares its confidence with no other


class Interval(NamedTuple):
    """A two-sided interval, in the unit of its measure."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.3g}, {self.high:.3g}]"


# When a comparison with a bound holds, by its operator: only if the whole interval lies on the good side.
HOLDS: Mapping[str, Callable[[Interval, float], bool]] = {
    ">=": lambda interval, bound: interval.low >= bound,
    ">": lambda interval, bound: interval.low > bound,
    "<=": lambda interval, bound: interval.high <= bound,
    "<": lambda interval, bound: interval.high < bound,
}


def interval_of_mean(
    values: Array, level: Level = ALONE, limits: tuple[float | None, float | None] = (None, None)
) -> Interval:
    """The interval of the mean of `values` [prompts].

    Args:
        level: how sure it must be.
        limits: the lowest and the highest value that a prompt can have, where there are such. Where all values are the
            same, an event that the prompts did not show may still have moved a share of them to a limit.
    """
    count, first = values.size, float(values[0])
    least, most = limits
    least = least if least is None or least <= values.min() else None
    most = most if most is None or most >= values.max() else None
    if (values == first).all():
        unseen = 1 - level.tail ** (1 / count)  # the largest share that is not seen with this probability
        low, high = (first if limit is None else first + unseen * (limit - first) for limit in (least, most))
        return Interval(low, high)
    low, high = map(float, intervals_of_means(values[:, None], level)[0])
    return Interval(low if least is None else max(low, least), high if most is None else min(high, most))


def intervals_of_means(values: Array, level: Level = ALONE) -> Array:
    """The intervals of the means of `values` [prompts, columns] -> [columns, low and high].

    Args:
        level: how sure each of them must be.
    """
    count, first = len(values), values[0]
    apart = values - first  # exact where all are the same
    scale = np.abs(apart).max(axis=0)
    apart = apart / np.where(scale > 0, scale, 1.0)  # so that no power of the smallest numbers is lost
    mean, spread = apart.mean(axis=0), apart.std(axis=0)
    reach = students_reach(level, count)
    standard = (apart - mean) / np.where(spread > 0, spread, 1.0)
    skewness = (standard**3).mean(axis=0) / np.sqrt(count)
    far = _halls_reach(reach, np.abs(skewness), 1 + reach / np.sqrt(count))
    below, above = np.where(skewness < 0, far, reach), np.where(skewness > 0, far, reach)
    error = spread / np.sqrt(count - 1)
    bounds: Array = first + scale * np.stack([mean - error * below, mean + error * above])
    return bounds.T


def _halls_reach(student: float, skewness: Array, times: float) -> Array:
    """How many standard errors Hall's interval reaches to the side to which the values are skewed.

    Few prompts show less skewness than there is, and far out that matters most. So any skewness up to `times` as much
    is allowed for: without that, exponential readings of 64 prompts are missed 1.8 times as often as may be where 144
    intervals must hold together.

    Args:
        student: how many standard errors Student's interval reaches.
        skewness: its size, over the root of the number of prompts [columns].
    """
    furthest = np.clip(_most_felt(student), skewness, times * skewness)
    tried = (_halls(student, size) for size in (skewness, furthest, times * skewness))
    reaches: Array = np.maximum.reduce([np.full_like(skewness, student), *tried])
    return reaches


def _halls(student: float, skewness: Array) -> Array:
    """Hall's transformation turned back: where his interval ends if Student's ends there."""
    some = skewness > 1e-6
    safe = np.where(some, skewness, 1.0)
    ends: Array = np.where(some, 3 * (1 + np.cbrt(safe * (student + safe / 6) - 1)) / safe, student)
    return ends


@lru_cache(maxsize=4096)
def _most_felt(student: float) -> float:
    """The skewness by which Hall's interval reaches furthest; with more of it the transformation saturates.

    There the derivative is zero: with `root` for the cube root, skewness**2 / 6 = (2 root - 1) (root + 1)**2.
    """
    root, skewness = 0.5, 0.0
    for _ in range(20):
        skewness = 3 * (math.sqrt(student**2 + 2 / 3 * (1 + root**3)) - student)
        root = 0.5 + skewness**2 / (12 * (root + 1) ** 2)
    return skewness


def least_prompts(level: Level, policy: Policy = DEFAULT) -> int:
    """How many prompts a mean must have before anything is decided.

    Few prompts cannot show how skewed their mean is, and the further out the ends of an interval lie, the more that
    matters. docs/quality.md has how often intervals of few prompts miss.
    """
    digits = -math.log10(2 * level.tail) - 2
    return policy.fewest_prompts + math.ceil(max(0.0, policy.further_prompts * digits))


@lru_cache(maxsize=4096)
def students_reach(level: Level, count: int) -> float:
    """How many standard errors Student's interval of a mean of `count` prompts reaches to either side."""
    from scipy.special import stdtrit  # scipy.stats has the same number, and takes a second to import

    return -float(stdtrit(count - 1, level.tail))


def interval_of_share(hits: Array, level: Level = ALONE) -> Interval:
    """The interval of the share of ones among `hits` [prompts].

    Args:
        level: how sure it must be.
    """
    return _exact(round(float(hits.sum())), hits.size, level.tail)


def interval_of_paired_rates(now: Array, then: Array, level: Level = ALONE, share: float = 1.0) -> Interval:
    """The interval of the rate `now` less a share of the rate `then`, ones and zeros on the same prompts [prompts].

    With a share of 1 it is that of their difference; otherwise it lies above zero where that share is retained.

    Args:
        level: how sure it must be.
    """
    both, gained, lost = now * then, now * (1 - then), then * (1 - now)
    parts = [(weight, hits) for weight, hits in ((1 - share, both), (1.0, gained), (-share, lost)) if weight]
    each = [(weight, interval_of_share(hits, level.among(len(parts)))) for weight, hits in parts]
    low = sum(weight * (one.low if weight > 0 else one.high) for weight, one in each)
    high = sum(weight * (one.high if weight > 0 else one.low) for weight, one in each)
    return Interval(max(low, -share), min(high, 1.0))


@lru_cache(maxsize=4096)
def _exact(hits: int, count: int, tail: float) -> Interval:
    if hits == count:  # without scipy, which is slow to import: suites are checked for what no prompt can show
        return Interval(tail ** (1 / count), 1.0)
    if hits == 0:
        return Interval(0.0, 1 - tail ** (1 / count))
    from scipy.special import betainccinv, betaincinv

    low, high = betaincinv(hits, count - hits + 1, tail), betainccinv(hits + 1, count - hits, tail)
    return Interval(float(low), float(high))
