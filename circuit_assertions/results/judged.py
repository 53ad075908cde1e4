"""The result of an assertion: what is known before it is judged, and after."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Assertion, Expectation, Judgement, Row, Verdict
from circuit_assertions.assertions.runner import NotApplicable, PlannedAssertion
from circuit_assertions.measures import Reading as TakenReading
from circuit_assertions.measures.figures import Figure as MeasuredFigure
from circuit_assertions.ordering import ranked
from circuit_assertions.results.audit import (
    AssertionResult,
    FindingResult,
    HeadFinding,
    Stratum,
    Waiver,
    WithoutChat,
    WorstPrompts,
)
from circuit_assertions.results.values import Figure, Reading
from circuit_assertions.verdict_words import Outcome

__all__ = ["judged", "planned"]

_MOST_PROMPTS = 3


def planned(
    asked: PlannedAssertion, suite: str, command: str = "", *, name: str = "", line: int | None = None
) -> AssertionResult:
    """The result of an assertion that was not judged yet.

    Args:
        suite: the file as the user would type it.
        command: reproduces it.
        name: another than its id.
        line: where it stands in the file.
    """
    assertion, waiver = asked.assertion, asked.assertion.waive
    return AssertionResult(
        model=str(asked.checkpoint),
        suite=suite,
        id=name or assertion.id,
        line=line,
        measure=assertion.measure,
        subject=_subject(assertion),
        why=assertion.why or "",
        required=asked.suite.suite.required if assertion.required is None else assertion.required,
        waiver=None if waiver is None else Waiver(until=waiver.until, reason=waiver.reason, expired=waiver.expired()),
        command=command,
    )


def judged(to_come: AssertionResult, assertion: Assertion, judgement: Judgement | NotApplicable) -> AssertionResult:
    """A planned result with its judgement, or with the reason why it does not apply.

    Raises:
        CircuitAssertionsError: if a figure is NaN or infinite.
    """
    if isinstance(judgement, NotApplicable):
        update = {"outcome": Outcome.SKIPPED.value, "reason": judgement.reason, "way_out": judgement.way_out}
        return to_come.model_copy(update=update)
    try:
        return AssertionResult.model_validate(dict(to_come) | _told(assertion, judgement))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise CircuitAssertionsError(f"{to_come.id} on {to_come.model}: {where} is not a finite number") from error


def _told(assertion: Assertion, judgement: Judgement) -> dict[str, object]:
    held = judgement.verdict is Verdict.HELD
    return {
        "outcome": judgement.verdict.value,
        "expected": judgement.expected,
        "rows": tuple(map(_row, judgement.rows)),
        "of_some": judgement.of_some,
        "reading": Reading.of(judgement.reading, first=[row.name for row in judgement.rows]),
        "amplified": judgement.amplified,
        "recovered": None if judgement.recovered is None else Figure.of(judgement.recovered),
        "not_judged": judgement.not_judged,
        "assumed": judgement.assumed,
        "confidence": judgement.level.confidence,
        "level": judgement.level.of_one,
        "strata": {name: _stratum(one) for name, one in judgement.strata.items()},
        "budget": judgement.budget,
        "enough": judgement.enough,
        "across": judgement.across,
        "without_chat": _without_chat(judgement.without_chat),
        "short": judgement.short,
        "worst": None if held else _worst(judgement, assertion.expect),
    }


def _stratum(judgement: Judgement) -> Stratum:
    return Stratum(verdict=judgement.verdict.value, prompts=judgement.reading.prompts, row=_row(judgement.rows[0]))


def _without_chat(judged: Judgement | CircuitAssertionsError | None) -> WithoutChat | None:
    if isinstance(judged, CircuitAssertionsError):
        return WithoutChat(verdict=Outcome.ERROR.value, reason=str(judged))
    return None if judged is None else WithoutChat(verdict=judged.verdict.value, row=_row(judged.rows[0]))


def _row(row: Row) -> HeadFinding:
    return HeadFinding(
        name=row.name,
        figure=Figure.of(MeasuredFigure(row.mean, row.interval)),
        verdict=row.verdict.value,
        findings=tuple(
            FindingResult(verdict=one.verdict.value, expected=one.expected, read=one.read) for one in row.findings
        ),
        baseline=row.baseline,
        amplified=row.amplified,
    )


def _subject(assertion: Assertion) -> str:
    told = assertion.operands
    where = f" from {told['query']} to {told['key']}" if "query" in told and "key" in told else ""
    chosen = assertion.heads or assertion.components
    if chosen is None or assertion.of_all_heads:
        return f"{assertion.measure}{where}"
    who = chosen if isinstance(chosen, str) else ", ".join(str(component) for component in chosen)
    return f"{assertion.measure}{where} of {who}"


def _worst(judgement: Judgement, expect: Expectation) -> WorstPrompts | None:
    """The prompts that lie furthest on the bad side of the row that stands first."""
    reading, row = judgement.reading, judgement.rows[0]
    if not any(reading.texts):
        return None
    values, too_high = _values_of(reading, row), _errs_upwards(judgement, expect)
    order = ranked(range(len(values)), lambda index: values[index] if too_high else -values[index])[:_MOST_PROMPTS]
    prompts = tuple((float(values[index]), reading.texts[index]) for index in order)
    return WorstPrompts(which="highest" if too_high else "lowest", row=row.name, prompts=prompts)


def _errs_upwards(judgement: Judgement, expect: Expectation) -> bool:
    """Whether high values are the bad ones; between two bounds, those on the side where the row lies."""
    lower, upper = expect.limits
    if lower is None or upper is None:
        return judgement.low_is_good
    return judgement.rows[0].mean > (lower + upper) / 2


def _values_of(reading: TakenReading, row: Row) -> NDArray[np.float64]:
    named = {str(component): component for component in reading.components}
    if row.name in named:
        return reading.of_head(named[row.name])
    return reading.values if reading.values.ndim == 1 else reading.values.mean(axis=1)
