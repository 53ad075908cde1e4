"""The audit in a screenful: which model, which circuit, and one line for each assertion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from circuit_assertions.assertions import Judgement, Verdict
from circuit_assertions.assertions.running import Asked
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.explaining import interval_text, number, share_text

__all__ = ["AuditLine", "Audited", "summary_lines"]

_SPOKEN = {
    "HELD": "held",
    "BROKEN": "broken",
    "UNRESOLVED": "unresolved",
    "SKIPPED": "skipped",
    "ERROR": "could not be read",
}


@dataclass(frozen=True)
class AuditLine:
    """What became of one assertion, in plain values, so that a test worker can send it.

    Attributes:
        outcome: HELD, BROKEN, UNRESOLVED, SKIPPED or ERROR.
        read: the telling row: `L3H1 0.92 [0.91, 0.93]`.
        recovered: how much of what the corrupted checkpoint had lost is back: `91% [88%, 94%]`.
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
    recovered: str = ""
    reason: str = ""

    @classmethod
    def of(cls, asked: Asked, suite: str, judgement: Judgement, name: str = "") -> AuditLine:
        """The line of a judged assertion; `suite` is the file as the user would type it, `name` another than its id."""
        return cls(
            model=str(asked.checkpoint),
            suite=suite,
            id=name or asked.assertion.id,
            outcome=judgement.verdict.value,
            measure=asked.assertion.measure,
            expected=judgement.expected,
            read=_telling(judgement),
            amplified=judgement.amplified,
            recovered="" if judgement.recovered is None else share_text(judgement.recovered),
        )

    def plain(self) -> dict[str, Any]:
        """The line as JSON can carry it."""
        return asdict(self)


def _telling(judgement: Judgement) -> str:
    """The row that decided: the worst where each head must hold, the best where some must; and how the others did."""
    row = judgement.rows[0]
    before = f" baseline {number(row.baseline)}" if row.baseline is not None else ""
    return f"{row.name} {number(row.mean)} {interval_text(row.interval)}{before}{_others(judgement)}".strip()


def _others(judgement: Judgement) -> str:
    first, count = judgement.rows[0], len(judgement.rows)
    alike = sum(row.verdict is first.verdict for row in judgement.rows)
    if count == 1:
        return ""
    if judgement.of_some and first.verdict is not Verdict.HELD:
        return f" (the best of {count} heads)"
    return f" ({alike} of {count} heads {first.verdict.value.lower()})"


@dataclass(frozen=True)
class Audited:
    """What a report says of one checkpoint before its assertions: (label, text) pairs."""

    model: str
    facts: Sequence[tuple[str, str]]


@printable_lines
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
                note = f"; {line.recovered} back" if line.recovered else ""
                note += "  (amplified)" if line.amplified else ""
                text = f"  {line.outcome:<10} {line.id:<{width}}  {line.read}, expected {line.expected}"
                yield text + note, line.outcome
            elif line.suite == suite:
                yield f"  {line.outcome:<10} {line.id}", line.outcome


def _reasons(lines: Sequence[AuditLine]) -> Iterator[tuple[str, str]]:
    """Why assertions were skipped or could not be read, each reason once."""
    for outcome in ("ERROR", "SKIPPED"):
        reasons = Counter(line.reason for line in lines if line.outcome == outcome)
        for reason, count in reasons.items():
            first, *more = reason.split("\n")
            yield f"{count} {_SPOKEN[outcome]}: {first}", outcome
            yield from ((f"  {line}", outcome) for line in more)


def _counts(lines: Sequence[AuditLine]) -> str:
    counts = Counter(line.outcome for line in lines)
    return "verdicts  " + ", ".join(f"{counts[outcome]} {said}" for outcome, said in _SPOKEN.items() if counts[outcome])
