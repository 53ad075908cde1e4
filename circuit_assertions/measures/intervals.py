"""Intervals that verdicts rest on: of a mean over prompts, and of a share of prompts, for several heads at once.

A bootstrap of two thousand resamples has no tail at the level that a correction for a hundred heads needs, and covers
too little where prompts are few. These are computed from formulas:

- of a mean: Student's t, and Hall's t with its correction for skewness (P. Hall, On the removal of skewness by
  transformation, J. R. Stat. Soc. B 54, 1992, 221-228); on either side, whichever reaches further. How often they miss
  is measured by `benchmarks/coverage.py`.
- of a share of prompts: Clopper and Pearson's, which covers whatever the share is (Biometrika 26, 1934, 404-413).
- of several means at once: Bonferroni's correction, so that all of them are covered together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CONFIDENCE",
    "FEWEST_PROMPTS",
    "HOLDS",
    "Interval",
    "interval_of_mean",
    "interval_of_share",
    "intervals_of_means",
    "students_reach",
]

Array = NDArray[np.float64]

CONFIDENCE = 0.95  # that all intervals of one assertion hold together
FEWEST_PROMPTS = 8  # of fewer, neither spread nor skewness of a mean can be told: nothing is decided


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
    values: Array, together: int = 1, limits: tuple[float | None, float | None] = (None, None)
) -> Interval:
    """The interval of the mean of `values` [prompts].

    Args:
        together: of how many means the intervals must hold at once.
        limits: the lowest and the highest value that a prompt can have, where there are such. Where all values are the
            same, an event that the prompts did not show may still have moved a share of them to a limit.
    """
    count, first = values.size, float(values[0])
    least, most = limits
    least = least if least is None or least <= values.min() else None
    most = most if most is None or most >= values.max() else None
    if (values == first).all():
        unseen = 1 - _tail(together) ** (1 / count)  # the largest share that is not seen with this probability
        low, high = (first if limit is None else first + unseen * (limit - first) for limit in (least, most))
        return Interval(low, high)
    low, high = map(float, intervals_of_means(values[:, None], together)[0])
    return Interval(low if least is None else max(low, least), high if most is None else min(high, most))


def intervals_of_means(values: Array, together: int = 1) -> Array:
    """The intervals of the means of `values` [prompts, columns] -> [columns, low and high].

    Args:
        together: of how many means the intervals must hold at once.
    """
    count, first = len(values), values[0]
    apart = values - first  # exact where all are the same
    scale = np.abs(apart).max(axis=0)
    apart = apart / np.where(scale > 0, scale, 1.0)  # so that no power of the smallest numbers is lost
    mean, spread = apart.mean(axis=0), apart.std(axis=0)
    reach = students_reach(together, count)
    standard = (apart - mean) / np.where(spread > 0, spread, 1.0)
    skewness = (standard**3).mean(axis=0) / np.sqrt(count)
    below, above = np.maximum(reach, _halls(reach, skewness)), np.maximum(reach, -_halls(-reach, skewness))
    error = spread / np.sqrt(count - 1)
    bounds: Array = first + scale * np.stack([mean - error * below, mean + error * above])
    return bounds.T


def _halls(student: float, skewness: Array) -> Array:
    """Hall's transformation turned back: where his interval ends if Student's ends there, in standard errors.

    Args:
        skewness: over the root of the number of prompts [columns].
    """
    safe = np.where(np.abs(skewness) < 1e-6, 1.0, skewness)
    turned = (np.cbrt(1 + safe * (student - safe / 6)) - 1) * 3 / safe
    ends: Array = np.where(np.abs(skewness) < 1e-6, student, turned)
    return ends


def _tail(together: int) -> float:
    """The chance that one of the ends may miss."""
    return (1 - CONFIDENCE) / (2 * together)


@lru_cache(maxsize=4096)
def students_reach(together: int, count: int) -> float:
    """How many standard errors Student's interval reaches to either side, for so many means of `count` prompts."""
    from scipy.special import stdtrit  # scipy.stats has the same number, and takes a second to import

    return -float(stdtrit(count - 1, _tail(together)))


def interval_of_share(hits: Array, together: int = 1) -> Interval:
    """The interval of the share of ones among `hits` [prompts].

    Args:
        together: of how many shares the intervals must hold at once.
    """
    return _exact(round(float(hits.sum())), hits.size, together)


@lru_cache(maxsize=4096)
def _exact(hits: int, count: int, together: int) -> Interval:
    tail = _tail(together)
    if hits == count:  # without scipy, which is slow to import: suites are checked for what no prompt can show
        return Interval(tail ** (1 / count), 1.0)
    if hits == 0:
        return Interval(0.0, 1 - tail ** (1 / count))
    from scipy.stats import beta

    return Interval(float(beta.ppf(tail, hits, count - hits + 1)), float(beta.isf(tail, hits + 1, count - hits)))
