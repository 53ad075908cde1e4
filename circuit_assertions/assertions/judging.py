"""From readings to a verdict.

A bound holds when the interval of the mean lies on its good side, is broken when the interval lies on its bad side, and
is unresolved in between. Everything relative to the baseline is judged on differences prompt by prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.proposed import Sourced
from circuit_assertions.assertions.schema import Expectation
from circuit_assertions.assertions.verdicts import Finding, Judgement, Row, Verdict, worst
from circuit_assertions.components import Component, kind_of
from circuit_assertions.measures.reading import (
    CONFIDENCE,
    Array,
    Interval,
    Reading,
    bootstrap_means,
    interval_of_mean,
    interval_of_share,
)
from circuit_assertions.ordering import ranked

__all__ = ["AMPLIFIED", "NO_SIGN", "describe", "judge"]

_ROUNDING = 1e-12  # means that differ by less than this share of the largest are level
NO_SIGN = 1e-5  # logits: what lies closer to zero is rounding, in float32, and neither positive nor negative
_SMALLEST = float(np.nextafter(0.0, 1.0))  # zero is neither, in any unit
AMPLIFIED = 1.25  # a reading whose interval lies above this multiple of the baseline's is noted as amplified


def judge(
    reading: Reading,
    expect: Expectation,
    needed: int | str,
    *,
    baseline: Reading | None = None,
    everyone: Reading | None = None,
) -> Judgement | None:
    """Judge a reading.

    Args:
        reading: of the heads that the assertion names.
        needed: how many heads must satisfy the expectation, `each`, or `mean`.
        baseline: the same reading of the baseline; without one, what is relative to it is not judged.
        everyone: the same measure for all heads of the model, which ranks need.

    Returns:
        The judgement; None when nothing could be judged, because all that is expected is relative to a baseline.

    Raises:
        CircuitAssertionsError: if the readings were not taken in the same way.
    """
    not_judged: tuple[str, ...] = ()
    for other in (baseline, everyone):
        if other is not None:
            _check_comparable(reading, other)
    if expect.retains is not None and baseline is None:
        not_judged = (f"retains {expect.retains:.0%} of the baseline (no --baseline was given)",)
        if expect.only_relative:
            return None
        expect = expect.model_copy(update={"retains": None})
    rows = [
        _judge_row(name, head, values, expect, reading, other, everyone)
        for name, head, values, other in _columns(reading, baseline, needed)
    ]
    of_negatives = expect.only_relative and baseline is not None and baseline.mean < 0
    low_is_good = expect.upper is not None or expect.sign == "negative" or of_negatives
    return Judgement(
        verdict=_quantify(rows, needed),
        expected=describe(expect, needed),
        rows=_telling_first(rows, isinstance(needed, int), low_is_good),
        reading=reading,
        not_judged=not_judged,
        of_some=isinstance(needed, int),
        low_is_good=low_is_good,
    )


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
    who = {"each": "", "mean": "", 1: "; for any head"}
    return ", ".join(_conditions(expect)) + who.get(needed, f"; for at least {needed} heads")


def _conditions(expect: Expectation) -> list[str]:
    said = []
    if expect.lower is not None:
        said.append(f"at least {_bound_text(expect.lower)}")
    if expect.upper is not None:
        said.append(f"at most {_bound_text(expect.upper)}")
    if expect.between is not None:
        said.append(f"between {expect.between[0]:g} and {expect.between[1]:g}")
    if expect.sign is not None:
        said.append(expect.sign)
    if expect.mostly is not None:
        said = [f"{' and '.join(said)} for {expect.mostly:.0%} of prompts"]
    if expect.rank_within is not None:
        said.append(f"rank within {expect.rank_within}")
    if expect.retains is not None:
        said.append(f"retains {expect.retains:.0%} of the baseline")
    return said


def _bound_text(bound: float) -> str:
    return f"{bound:g} ({bound.source})" if isinstance(bound, Sourced) else f"{bound:g}"


def _columns(
    reading: Reading, baseline: Reading | None, needed: int | str
) -> list[tuple[str, Component | None, Array, Array | None]]:
    if needed == "mean" and reading.components:
        other = baseline.values.mean(axis=1) if baseline is not None else None
        called = "heads" if {kind_of(column) for column in reading.components} == {"head"} else "components"
        return [(f"mean of {len(reading.components)} {called}", None, reading.values.mean(axis=1), other)]
    others = baseline.columns() if baseline is not None else [(None, None)] * len(reading.columns())
    return [
        (str(head) if head is not None else "", head, values, other)
        for (head, values), (_, other) in zip(reading.columns(), others, strict=True)
    ]


def _judge_row(
    name: str,
    head: Component | None,
    values: Array,
    expect: Expectation,
    reading: Reading,
    baseline: Array | None,
    everyone: Reading | None,
) -> Row:
    interval = reading.interval(values)
    findings = list(_judge_bounds(values, interval, expect, NO_SIGN if reading.unit == "logits" else _SMALLEST))
    if expect.rank_within is not None and head is not None and everyone is not None:
        findings.append(_judge_rank(head, expect, everyone))
    amplified = False
    if baseline is not None:
        amplified = _is_amplified(values, baseline)
        if expect.retains is not None:
            findings.append(_judge_retains(values, baseline, expect.retains))
    verdict = worst([finding.verdict for finding in findings])
    return Row(
        name=name,
        mean=float(values.mean()),
        interval=interval,
        verdict=verdict,
        findings=tuple(findings),
        baseline=None if baseline is None else float(baseline.mean()),
        amplified=amplified and verdict is Verdict.HELD,
    )


def _judge_bounds(values: Array, interval: Interval, expect: Expectation, no_sign: float) -> list[Finding]:
    bounds: list[tuple[str, float, float]] = []  # what is said, and the range [low, high] that is good
    if expect.lower is not None:
        bounds.append((f"at least {_bound_text(expect.lower)}", expect.lower, np.inf))
    if expect.upper is not None:
        bounds.append((f"at most {_bound_text(expect.upper)}", -np.inf, expect.upper))
    if expect.between is not None:
        bounds.append((f"between {expect.between[0]:g} and {expect.between[1]:g}", *expect.between))
    if expect.sign is not None:
        good = (no_sign, np.inf) if expect.sign == "positive" else (-np.inf, -no_sign)
        bounds.append((expect.sign, *good))
    if expect.mostly is None:
        return [Finding(_place(interval, low, high), text) for text, low, high in bounds]
    met = np.logical_and.reduce([(values >= low) & (values <= high) for _, low, high in bounds]).astype(np.float64)
    share = interval_of_share(met)
    text = f"{' and '.join(text for text, _, _ in bounds)} for {expect.mostly:.0%} of prompts"
    return [
        Finding(
            _place(share, expect.mostly, np.inf), text, f"met by {met.mean():.1%} [{share.low:.1%}, {share.high:.1%}]"
        )
    ]


def _place(interval: Interval, low: float, high: float) -> Verdict:
    if low <= interval.low and interval.high <= high:
        return Verdict.HELD
    if interval.high < low or interval.low > high:
        return Verdict.BROKEN
    return Verdict.UNRESOLVED


def _judge_rank(head: Component, expect: Expectation, everyone: Reading) -> Finding:
    downwards = expect.sign == "negative"
    means = bootstrap_means(-everyone.values if downwards else everyone.values)  # [resamples, heads]
    lead = means - means[:, everyone.components.index(head)][:, None]  # of every head over this one
    tie = _ROUNDING * float(np.abs(means).max())
    # Heads that are level share their ranks: at best this one is the first of them, at worst the last.
    first, last = 1 + (lead > tie).sum(axis=1), (lead >= -tie).sum(axis=1)  # [resamples]
    tail = 100 * (1 - CONFIDENCE) / 2
    low = int(np.percentile(first, tail, method="nearest"))
    high = int(np.percentile(last, 100 - tail, method="nearest"))
    k = expect.rank_within or 1
    verdict = Verdict.HELD if high <= k else Verdict.BROKEN if low > k else Verdict.UNRESOLVED
    read = f"rank {low}" if low == high else f"rank {low} to {high}"
    return Finding(
        verdict, f"rank within {k}", f"{read} of {len(everyone.components)}{' from below' if downwards else ''}"
    )


def _judge_retains(values: Array, baseline: Array, share: float) -> Finding:
    text = f"retains {share:.0%} of the baseline"
    before = interval_of_mean(baseline)
    if before.low <= 0 <= before.high:
        return Finding(Verdict.UNRESOLVED, text, f"the baseline's own reading is not clear of zero {before}")
    direction = 1.0 if before.low > 0 else -1.0
    left = interval_of_mean(direction * (values - share * baseline))  # paired by prompt
    return Finding(_place(left, 0.0, np.inf), text, f"{values.mean() / baseline.mean():.0%} of it")


def _is_amplified(values: Array, baseline: Array) -> bool:
    before = interval_of_mean(baseline)
    if before.low <= 0 <= before.high:
        return False
    direction = 1.0 if before.low > 0 else -1.0
    return interval_of_mean(direction * (values - AMPLIFIED * baseline)).low > 0


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
    return tuple(sorted(highest_first, key=lambda row: order[row.verdict], reverse=of_some))
