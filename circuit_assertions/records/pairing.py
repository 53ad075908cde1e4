"""Two recorded readings of one assertion side by side: the same prompts where there are such, and their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from circuit_assertions.measures import MEASURES
from circuit_assertions.measures.intervals import (
    Interval,
    Level,
    interval_of_mean,
    interval_of_paired_rates,
    interval_of_share,
)
from circuit_assertions.records.packing import Array
from circuit_assertions.records.record import Record, RecordedReading
from circuit_assertions.results import AssertionResult

__all__ = ["Pair", "pair_of"]

_SHARE = "share"
_SETTING = ("dtype", "device")


@dataclass(frozen=True)
class Pair:
    """The columns that two readings have in common.

    Attributes:
        before, after: values by column, [prompts]; prompt by prompt the same prompts if they are `paired`.
        rounding: below which a difference is rounding.
    """

    measure: str
    unit: str
    kind: str
    before: Mapping[str, Array]
    after: Mapping[str, Array]
    paired: bool
    rounding: float

    @property
    def prompts(self) -> tuple[int, int]:
        """How many are compared of each."""
        return next(iter(self.before.values())).size, next(iter(self.after.values())).size

    def interval(self, name: str, level: Level, share: float = 1.0) -> Interval:
        """The interval of what a column is now, less a share of what it was.

        Where other prompts were read, it is that of two intervals which both hold.
        """
        now, then = self.after[name], self.before[name]
        if self.paired and self.kind == _SHARE:
            return interval_of_paired_rates(now, then, level, share)
        if self.paired:
            return interval_of_mean(now - share * then, level)
        new, old = (self._alone(values, level.among(2)) for values in (now, then))
        return Interval(new.low - share * old.high, new.high - share * old.low)

    def _alone(self, values: Array, level: Level) -> Interval:
        if self.kind == _SHARE:
            return interval_of_share(values, level)
        spec = MEASURES.get(self.measure)
        return interval_of_mean(values, level, (None, None) if spec is None else spec.limits)


def pair_of(before: Record, first: int | None, after: Record, second: int | None, told: AssertionResult) -> Pair | str:
    """The readings that an assertion rests on in two runs, or why they cannot be compared.

    Args:
        first, second: where they are among the readings of each record.
        told: the assertion in the later run: what its verdict was about is a column too.
    """
    if first is None or second is None:
        return "there is no reading in one of the runs"
    then, now = before.readings[first], after.readings[second]
    if (problem := _differ(then, now)) is not None:
        return problem
    try:
        columns = then.columns(), now.columns()
    except ValueError as error:
        return str(error)
    names = [name for name in columns[1] if name in columns[0]]
    own = tuple(told.reading.components) if told.reading is not None else ()
    names = [name for name in names if not own or name in own]
    if not names:
        return "the runs read other heads"
    rows = _common(before, then, after, now)
    paired = rows is not None
    first_side, second_side = (
        {name: values[name] if rows is None else values[name][rows[side]] for name in names}
        for side, values in enumerate(columns)
    )
    together = next((row.name for row in told.rows if row.name and row.name not in names), "")
    if together and len(names) > 1:
        for side in (first_side, second_side):
            side[together] = np.mean([side[name] for name in names], axis=0)
    rounding = max(then.rounding, now.rounding)
    return Pair(now.measure, now.unit, now.kind, first_side, second_side, paired, rounding)


def _differ(then: RecordedReading, now: RecordedReading) -> str | None:
    """In what two readings differ that makes a comparison meaningless."""
    if (then.measure, then.unit) != (now.measure, now.unit):
        return f"another measure was read: {then.measure} in {then.unit}, {now.measure} in {now.unit}"
    if then.operands != now.operands:
        names = sorted(
            name for name in {*then.operands, *now.operands} if then.operands.get(name) != now.operands.get(name)
        )
        told = ", ".join(f"{name} {then.operands.get(name)}, then {now.operands.get(name)}" for name in names)
        return f"the measure has other operands: {told}"
    if then.task.get("kind") != now.task.get("kind"):
        return f"the tasks are of other kinds: {then.task.get('kind')}, then {now.task.get('kind')}"
    settings = [" on ".join(one.identity.get(name, "?") for name in _SETTING) for one in (then, now)]
    if settings[0] != settings[1]:
        return f"they were read in {settings[0]}, then in {settings[1]}, which readings depend on"
    return None


def _common(
    before: Record, then: RecordedReading, after: Record, now: RecordedReading
) -> tuple[list[int], list[int]] | None:
    """The rows of both readings that are of the same prompts; None where fewer than half of them are."""
    old, new = before.hashes_of(then), after.hashes_of(now)
    if old == new and then.token_hash == now.token_hash:
        return list(range(len(old))), list(range(len(new)))
    if not (then.alone and now.alone):
        return None
    places = {one: place for place, one in enumerate(old)}
    pairs = [(places[one], place) for place, one in enumerate(new) if one in places]
    if 2 * len(pairs) < min(len(old), len(new)):
        return None
    return [one for one, _ in pairs], [other for _, other in pairs]
