"""How far the readings of two settings differ, and the tolerance that follows from one half of the prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from circuit_assertions.assertions import Judgement
from circuit_assertions.measures.figures import Array
from circuit_assertions.results.calibration import MeasureDifference

__all__ = ["Compared", "differences_of"]

_DIGITS = 4  # significant ones: the fifth of a rounding error differs between machines


@dataclass(frozen=True)
class Compared:
    """An assertion's reading under two settings.

    Attributes:
        first, second: the rows of the two halves of its prompts.
    """

    name: str
    reference: Judgement
    other: Judgement
    first: Sequence[int]
    second: Sequence[int]

    @property
    def apart(self) -> Array:
        """The difference of every prompt and head [prompts, columns]."""
        values: Array = self.other.reading.values - self.reference.reading.values
        return values.reshape(len(values), -1)

    def largest(self, rows: Sequence[int] | None = None) -> tuple[float, int]:
        """The largest difference of a single prompt, over some rows or all, and its column."""
        by_column = np.abs(self.apart if rows is None else self.apart[list(rows)]).max(axis=0)  # [columns]
        return float(by_column.max()), int(by_column.argmax())

    def of_mean(self, rows: Sequence[int] | None = None, errors: float = 0.0) -> tuple[float, int]:
        """The largest difference of a column's mean, over some rows or all, and the column.

        Args:
            errors: how many standard errors of the difference are added.
        """
        apart = self.apart if rows is None else self.apart[list(rows)]
        spread = apart.std(axis=0, ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else 0.0
        by_column = np.abs(apart.mean(axis=0)) + errors * spread  # [columns]
        return float(by_column.max()), int(by_column.argmax())

    def width(self, column: int) -> float:
        """Of the interval that a verdict on this column rests on."""
        reading = self.reference.reading
        low, high = reading.interval(reading.columns()[column][1], self.reference.level)
        return high - low

    @property
    def step(self) -> float:
        """The least by which a value can change: 1 for hits, a name of many for a share of names, else next to none."""
        reading = self.reference.reading
        gaps = np.diff(np.unique(reading.values))
        return 1.0 if reading.kind == "share" else float(gaps.min()) if gaps.size else 0.0

    def where(self, column: int) -> str:
        """The assertion, and the head if there is one."""
        component = self.reference.reading.columns()[column][0]
        return self.name if component is None else f"{self.name}, {component}"


def differences_of(compared: Iterable[Compared], margin: float) -> tuple[MeasureDifference, ...]:
    """The differences of each measure, over all assertions that read it.

    Args:
        margin: how many standard errors a tolerance is larger than the difference of the first half.
    """
    by_measure: dict[str, list[Compared]] = {}
    for one in compared:
        by_measure.setdefault(one.reference.reading.measure, []).append(one)
    # A value that counts hits does not show how near it was to the next. It was far from it where the readings that
    # would show it change by no more than rounding.
    changes = any(
        one.of_mean(one.first, margin)[0] > one.reference.reading.rounding
        for some in by_measure.values()
        for one in some
        if one.reference.reading.kind != "share"
    )
    return tuple(_difference(some, margin, changes) for _, some in sorted(by_measure.items()))


def _difference(some: Sequence[Compared], margin: float, changes: bool) -> MeasureDifference:
    reading = some[0].reference.reading
    farthest = max(some, key=lambda one: one.largest()[0])
    most = max(some, key=lambda one: one.of_mean()[0])
    held_out = max(one.of_mean(one.second)[0] for one in some)
    held_out_prompt = max(one.largest(one.second)[0] for one in some)
    tolerances = _tolerances(some, margin, changes, lambda one: one.first)
    holds = held_out <= tolerances[0] and held_out_prompt <= tolerances[1]
    if not holds:
        of_all = _tolerances(some, margin, changes, lambda one: None)
        tolerances = max(of_all[0], held_out), max(of_all[1], held_out_prompt)
    figures = {
        "largest": farthest.largest()[0],
        "of_mean": most.of_mean()[0],
        "width": most.width(most.of_mean()[1]),
        "fitted": max(one.of_mean(one.first)[0] for one in some),
        "held_out": held_out,
        "held_out_prompt": held_out_prompt,
        "tolerance": tolerances[0],
        "tolerance_prompt": tolerances[1],
    }
    return MeasureDifference(
        measure=reading.measure,
        unit=reading.unit,
        readings=len(some),
        where=farthest.where(farthest.largest()[1]),
        holds=holds,
        **{name: float(f"{value:.{_DIGITS}g}") for name, value in figures.items()},
    )


def _tolerances(
    some: Sequence[Compared], margin: float, changes: bool, rows: Callable[[Compared], Sequence[int] | None]
) -> tuple[float, float]:
    """The tolerance of a mean and of a single prompt, from some of the prompts.

    Args:
        changes: whether this setting changes more than what is rounding.
    """
    least = max(one.reference.reading.rounding for one in some)
    of_mean = max(one.of_mean(rows(one), margin)[0] for one in some)
    of_prompt = margin * max(one.largest(rows(one))[0] for one in some)
    if changes:  # where none of n prompts changed by a step, up to margin / n of others may: at 3, the rule of three
        of_mean = max(of_mean, *(one.step * margin / len(one.first) for one in some))
        of_prompt = max(of_prompt, *(one.step for one in some))
    return max(of_mean, least), max(of_prompt, least)
