"""Figures with their intervals, and shares of one mean in another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuit_assertions.measures import Interval, Reading
from circuit_assertions.measures.intervals import Level, interval_of_mean
from circuit_assertions.policy import Policy

__all__ = ["Array", "Figure", "bounded", "has_lost", "number", "share_in_words", "share_of", "signed", "what_is_lost"]

_TENTH = 0.1
_ALONE = Level.of_figures()  # of a figure that shares its level with no other
_NOTHING = 1e-6  # what is smaller is rounding, and reads otherwise with other threads

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A mean with its interval."""

    mean: float
    interval: Interval

    @classmethod
    def of(cls, reading: Reading, level: Level = _ALONE) -> Figure:
        """The figure of a reading that has no heads."""
        return cls(reading.mean, reading.interval(reading.values, level))

    @classmethod
    def of_values(cls, values: Array, level: Level = _ALONE) -> Figure:
        """The figure of values [prompts]."""
        return cls(float(values.mean()), interval_of_mean(values, level))

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.interval.low > 0 or self.interval.high < 0

    def __str__(self) -> str:
        return f"{number(self.mean)} [{number(self.interval.low)}, {number(self.interval.high)}]"


def number(value: float) -> str:
    """A reading as every text shows it: three significant digits, two decimals from 0.1 on, a sign if negative."""
    if abs(value) < _NOTHING:
        return "0"
    short = f"{value:.3g}"
    return f"{value:.2f}" if 0.1 <= abs(float(short)) < 1000 else short


def signed(value: float) -> str:
    """The same of an effect, whose sign is always shown: `+0.25`, `-0.00412`; `0` has none."""
    shown = number(value)
    return shown if shown.startswith("-") or shown == "0" else f"+{shown}"


def share_in_words(share: float) -> str:
    """A share in a sentence: `a tenth`, `5%`."""
    return "a tenth" if share == _TENTH else f"{100 * share:g}%"


def share_of(part: Array, whole: Array) -> Array:
    """One value per prompt whose mean is mean(part) / mean(whole), and whose spread is that ratio's (linearised).

    Args:
        part: [prompts]
        whole: [prompts], with a mean that is clear of zero.
    """
    ratio = part.mean() / whole.mean()
    shares: Array = ratio + (part - ratio * whole) / whole.mean()
    return shares


def bounded(values: Array, whole: float) -> Array:
    """Values [prompts] of which none counts for more than `whole`, in either direction.

    A mean of logit differences can be as large as `whole` where a few prompts have very large ones and most are wrong.
    """
    kept: Array = np.clip(values, -whole, whole)
    return kept


def has_lost(then: Array, now: Array, policy: Policy) -> bool:
    """Whether enough of the behaviour `then` [prompts] is gone `now` to ask for its origin or its recovery."""
    lost = then - now
    clear = Figure.of_values(lost, Level.of_figures(policy)).interval.low > 0
    return bool(clear and lost.mean() >= policy.least_lost * then.mean())


def what_is_lost(then: Array, now: Array, policy: Policy, beside: object = "") -> str:
    """Why `has_lost` is false, as the rest of a sentence after a checkpoint's name.

    Args:
        beside: the checkpoint that it is compared with.
    """
    where = f" compared with {beside}" if beside else ""
    lost = Figure.of_values(share_of(then - now, then), Level.of_figures(policy))
    if lost.mean < policy.least_lost:
        return f"has lost less than {share_in_words(policy.least_lost)} of the behaviour{where}"
    low, high = lost.interval
    return f"has lost {lost.mean:.0%} [{low:.0%}, {high:.0%}] of the behaviour{where}, which is not clear of zero"
