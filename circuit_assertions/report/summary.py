"""The audit in a screenful: which model, which circuit, and one line for each assertion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from circuit_assertions.assertions import Judgement, Verdict
from circuit_assertions.assertions.running import Asked
from circuit_assertions.report.explaining import interval_text, number

__all__ = ["AuditLine", "Audited", "summary_lines"]


@dataclass(frozen=True)
class AuditLine:
    """What became of one assertion, in plain values, so that a test worker can send it.

    Attributes:
        outcome: HELD, BROKEN, UNRESOLVED, SKIPPED or ERROR.
        read: the telling row: `L3H1 0.92 [0.91, 0.93]`.
        reason: why it was skipped, or could not be read.
    """

    model: str
    suite: str
    id: str
    outcome: str
    measure: str = ""
    expected: str = ""
    read: str = ""
    amplified: bool = False
    reason: str = ""

    @classmethod
    def of(cls, asked: Asked, suite: str, judgement: Judgement) -> AuditLine:
        """The line of a judged assertion; `suite` is the file as the user would type it."""
        return cls(
            model=str(asked.checkpoint),
            suite=suite,
            id=asked.assertion.id,
            outcome=judgement.verdict.value,
            measure=asked.assertion.measure,
            expected=judgement.expected,
            read=_telling(judgement),
            amplified=judgement.amplified,
        )

    def plain(self) -> dict[str, Any]:
        """The line as JSON can carry it."""
        return asdict(self)


def _telling(judgement: Judgement) -> str:
    """The row that decided: the worst where each head must hold, the best where some must."""
    row, others = judgement.rows[0], judgement.rows[1:]
    if judgement.of_some:
        others = tuple(other for other in others if other.verdict is row.verdict is Verdict.HELD)
    more = f" (and {len(others)} more)" if others else ""
    before = f" baseline {number(row.baseline)}" if row.baseline is not None else ""
    return f"{row.name} {number(row.mean)} {interval_text(row.interval)}{before}{more}".strip()


@dataclass(frozen=True)
class Audited:
    """What a report says of one checkpoint before its assertions: (label, text) pairs."""

    model: str
    facts: Sequence[tuple[str, str]]


def summary_lines(audited: Iterable[Audited], lines: Sequence[AuditLine]) -> Iterator[tuple[str, str]]:
    """The report as (text, outcome) pairs; outcome is empty for lines that are no verdict."""
    for model in audited:
        own = [line for line in lines if line.model == model.model]
        if not own:
            continue
        yield f"model     {model.model}", ""
        for label, text in model.facts:
            yield f"{label:<9} {text}", ""
        yield from _table(own)
        yield from _reasons(own)
        yield _counts(own), ""


def _table(lines: Sequence[AuditLine]) -> Iterator[tuple[str, str]]:
    width = max(len(line.id) for line in lines)
    for suite in dict.fromkeys(line.suite for line in lines):
        yield suite, ""
        for line in lines:
            if line.suite == suite and line.outcome not in ("SKIPPED", "ERROR"):
                note = "  (amplified)" if line.amplified else ""
                text = f"  {line.outcome:<10} {line.id:<{width}}  {line.measure} {line.read}, expected {line.expected}"
                yield text + note, line.outcome
            elif line.suite == suite:
                yield f"  {line.outcome:<10} {line.id}", line.outcome


def _reasons(lines: Sequence[AuditLine]) -> Iterator[tuple[str, str]]:
    """Why assertions were skipped or could not be read, each reason once."""
    for outcome in ("ERROR", "SKIPPED"):
        reasons = Counter(line.reason for line in lines if line.outcome == outcome)
        for reason, count in reasons.items():
            yield f"{outcome.lower()} {count}: {reason}", outcome


def _counts(lines: Sequence[AuditLine]) -> str:
    counts = Counter(line.outcome for line in lines)
    said = [f"{counts[outcome]} {outcome.lower()}" for outcome in ("HELD", "BROKEN", "UNRESOLVED") if counts[outcome]]
    said += [f"{counts['SKIPPED']} skipped"] if counts["SKIPPED"] else []
    said += [f"{counts['ERROR']} could not be read"] if counts["ERROR"] else []
    return "verdicts  " + ", ".join(said)
