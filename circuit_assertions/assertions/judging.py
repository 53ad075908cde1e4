"""From readings to a verdict.

What each condition requires is in its own module. This is what all have in common: the rows that are judged, how many
of them must meet the expectation, and what is noted beside the verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.bounds import bounds_found_in
from circuit_assertions.assertions.condition import Evidence
from circuit_assertions.assertions.expectation import Expectation
from circuit_assertions.assertions.verdicts import Finding, Judgement, Row, Verdict, worst
from circuit_assertions.components import Component, kind_of
from circuit_assertions.measures.intervals import ALONE, Interval, Level, least_prompts
from circuit_assertions.measures.reading import Array, Reading
from circuit_assertions.measures.registry import MEASURES
from circuit_assertions.measures.tolerances import (
    NO_TOLERANCE,
    Setting,
    Tolerance,
    Tolerances,
    setting_of,
    tolerance_between,
)
from circuit_assertions.ordering import ranked
from circuit_assertions.policy import DEFAULT, Policy

__all__ = ["describe", "judge"]

_Column = tuple[str, Component | None, Array, Array | None]  # name, component, values and baseline's [prompts]


def judge(
    reading: Reading,
    expect: Expectation,
    needed: int | str,
    *,
    baseline: Reading | None = None,
    everyone: Reading | None = None,
    level: Level = ALONE,
    policy: Policy = DEFAULT,
    tolerances: Tolerances | None = None,
) -> Judgement | None:
    """Judge a reading.

    Args:
        reading: of the heads that the assertion names.
        needed: how many heads must satisfy the expectation, `each`, or `mean`.
        baseline: the same reading of the baseline; without one, what is relative to it is not judged.
        everyone: the same measure for all heads of the model, which ranks need.
        level: how sure the assertion must be as a whole; its heads and conditions share it.
        policy: its other thresholds.
        tolerances: by how much intervals are wider where the readings were taken under different settings.

    Returns:
        The judgement; None when nothing could be judged, because all that is expected is relative to a baseline.

    Raises:
        CircuitAssertionsError: if the readings were not taken in the same way; an IncomparableError, if only their
            settings differ, and there are no tolerances between these.
    """
    across = _Across.of(reading, baseline, everyone, tolerances, bounds_found_in(expect.conditions))
    not_judged: tuple[str, ...] = ()
    relative = expect.only_relative
    if baseline is None:
        expect, not_judged = expect.without_baseline()
        if not_judged and expect.is_empty:
            return None
    columns = _columns(reading, baseline, needed)
    if isinstance(needed, int) and any(one.needs_baseline for one in expect.judged):
        columns = _leading(columns, needed, expect)
    level = level.among(len(columns) * _intervals_of(expect))
    rows = [
        _judge_row(name, head, values, expect, reading, other, everyone, level, policy, across)
        for name, head, values, other in columns
    ]
    of_negatives = relative and baseline is not None and baseline.mean < 0
    low_is_good = expect.low_is_good or of_negatives
    return Judgement(
        verdict=_quantify(rows, needed),
        expected=describe(expect, needed),
        rows=_telling_first(rows, isinstance(needed, int), low_is_good),
        reading=reading,
        not_judged=not_judged,
        of_some=isinstance(needed, int),
        low_is_good=low_is_good,
        level=level,
        across=across.told,
    )


@dataclass(frozen=True)
class _Across:
    """What is added to intervals, because readings were taken under different settings, and how that is told."""

    baseline: Tolerance = NO_TOLERANCE
    bounds: Tolerance = NO_TOLERANCE
    told: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        reading: Reading,
        baseline: Reading | None,
        everyone: Reading | None,
        tolerances: Tolerances | None,
        proposed_in: Setting | None,
    ) -> _Across:
        for other in (baseline, everyone):
            if other is not None:
                _check_comparable(reading, other)
        own = setting_of(reading)
        if everyone is not None:  # ranks are those of one reading: no tolerance makes them of two
            tolerance_between(reading.measure, own, setting_of(everyone), None)
        before = None if baseline is None else setting_of(baseline)
        settings = {"the baseline": before, "the circuit file": proposed_in}
        found = {
            name: tolerance_between(reading.measure, own, one, tolerances)
            for name, one in settings.items()
            if one is not None
        }

        def told() -> Iterator[str]:
            for name, tolerance in found.items():
                if own != settings[name] and tolerances is not None and tolerances.source:
                    wider = f"intervals are wider by {tolerance.mean:.3g} {reading.unit} at both ends"
                    yield f"{name} was read in {settings[name]}, this model in {own}; {wider} ({tolerances.source})"

        none = NO_TOLERANCE
        return cls(found.get("the baseline", none), found.get("the circuit file", none), tuple(told()))

    def interval(self, reading: Reading, values: Array, level: Level) -> Interval:
        """The interval of a mean that a verdict rests on, within the range of the measure."""
        interval = reading.interval(values, level)
        if self.bounds == NO_TOLERANCE:
            return interval
        low, high = self.bounds.widened(interval)
        spec = MEASURES.get(reading.measure)
        lowest, highest = (None, None) if spec is None else spec.limits
        return Interval(low if lowest is None else max(low, lowest), high if highest is None else min(high, highest))


def _intervals_of(expect: Expectation) -> int:
    """By how many intervals a row is judged."""
    own = [one.own_interval for one in expect.judged]
    return sum(own) + (not all(own))


def _check_comparable(reading: Reading, other: Reading) -> None:
    """Readings of other measures, prompts or operands are never compared in silence."""
    ours, theirs = (
        {"measure": each.measure} | {key: each.settings.get(key) for key in ("operands", "token_hash")}
        for each in (reading, other)
    )
    for key, value in ours.items():
        if value != theirs[key]:
            raise CircuitAssertionsError(f"readings that differ in {key} cannot be compared: {value}, {theirs[key]}")


def describe(expect: Expectation, needed: int | str = "each") -> str:
    """An expectation in words: `at least 0.45, positive; for any head`."""
    if not isinstance(needed, int):
        return expect.in_words
    if any(one.needs_baseline for one in expect.judged):
        who = "the head that leads" if needed == 1 else f"the {needed} heads that lead"
        return f"{expect.in_words}; for {who} on the baseline"
    return f"{expect.in_words}; for {'any head' if needed == 1 else f'at least {needed} heads'}"


def _columns(reading: Reading, baseline: Reading | None, needed: int | str) -> list[_Column]:
    if needed == "mean" and reading.components:
        other = baseline.values.mean(axis=1) if baseline is not None else None
        called = "heads" if {kind_of(column) for column in reading.components} == {"head"} else "components"
        return [(f"mean of {len(reading.components)} {called}", None, reading.values.mean(axis=1), other)]
    others = baseline.columns() if baseline is not None else [(None, None)] * len(reading.columns())
    return [
        (str(head) if head is not None else "", head, values, other)
        for (head, values), (_, other) in zip(reading.columns(), others, strict=True)
    ]


def _leading(columns: list[_Column], needed: int, expect: Expectation) -> list[_Column]:
    """The heads that lead on the baseline, as many as are needed.

    What is relative to the baseline is asked of them alone. Some other head nearly always keeps its small reading.
    """

    def level(column: _Column) -> float:
        _, _, _, baseline = column
        assert baseline is not None
        mean = float(baseline.mean())
        return -mean if expect.low_is_good else abs(mean) if expect.only_relative else mean

    return ranked(columns, level)[:needed]


def _judge_row(
    name: str,
    head: Component | None,
    values: Array,
    expect: Expectation,
    reading: Reading,
    baseline: Array | None,
    everyone: Reading | None,
    level: Level,
    policy: Policy,
    across: _Across,
) -> Row:
    interval, spec = across.interval(reading, values, level), MEASURES.get(reading.measure)
    evidence = Evidence(
        values,
        interval,
        reading.unit,
        reading.rounding,
        head,
        baseline,
        everyone,
        beside=expect.conditions,
        level=level,
        hits=reading.kind == "share",
        limits=(None, None) if spec is None else spec.limits,
        of_baseline=across.baseline,
        of_bounds=across.bounds,
    )
    judged = [condition for condition in expect.judged if evidence.suffices(condition)]
    findings = [condition.judge(evidence) for condition in judged]
    least = least_prompts(level, policy)
    if reading.kind != "share" and values.size < least:
        few = f"{values.size} prompts decide nothing: use at least {least}"
        findings = [
            finding if condition.exact else Finding(Verdict.UNRESOLVED, finding.expected, few)
            for condition, finding in zip(judged, findings, strict=True)
        ]
    verdict = worst([finding.verdict for finding in findings])
    amplified = baseline is not None and _is_amplified(evidence, policy)
    return Row(
        name=name,
        mean=float(values.mean()),
        interval=interval,
        verdict=verdict,
        findings=tuple(findings),
        baseline=None if baseline is None else float(baseline.mean()),
        amplified=amplified and verdict is Verdict.HELD,
    )


def _is_amplified(evidence: Evidence, policy: Policy) -> bool:
    before, more = evidence.interval_of_baseline, evidence.interval_beside(policy.amplified_above)
    return (before.low > 0 and more.low > 0) or (before.high < 0 and more.high < 0)


def _quantify(rows: Sequence[Row], needed: int | str) -> Verdict:
    verdicts = [row.verdict for row in rows]
    if needed in ("each", "mean"):
        return worst(verdicts)
    held, open_ = verdicts.count(Verdict.HELD), verdicts.count(Verdict.UNRESOLVED)
    if held >= int(needed):
        return Verdict.HELD
    return Verdict.UNRESOLVED if held + open_ >= int(needed) else Verdict.BROKEN


def _telling_first(rows: Sequence[Row], of_some: bool, low_is_good: bool) -> tuple[Row, ...]:
    order = {Verdict.BROKEN: 0, Verdict.UNRESOLVED: 1, Verdict.HELD: 2}
    highest_first = ranked(rows, lambda row: row.mean if low_is_good != of_some else -row.mean)
    if not of_some:
        highest_first = sorted(
            highest_first, key=lambda row: -max((finding.size for finding in row.findings), default=0.0)
        )
    return tuple(sorted(highest_first, key=lambda row: order[row.verdict], reverse=of_some))
