"""The summary of an audit: which model, which circuit, and one line for each assertion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from circuit_assertions.assertions import Judgement, Verdict
from circuit_assertions.assertions.runner import PlannedAssertion
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.explaining import interval_text, number, share_text
from circuit_assertions.verdict_words import Outcome

__all__ = ["AuditLine", "Audited", "summary_lines"]


@dataclass(frozen=True)
class AuditLine:
    """The outcome of one assertion, in plain values, so that a test worker can send it.

    Attributes:
        outcome: HELD, BROKEN, UNRESOLVED, Outcome.SKIPPED, ERROR or NOT RUN; empty until it is known.
        read: the decisive row: `L3H1 0.92 [0.91, 0.93] share of attention`.
        recovered: how much of what the corrupted checkpoint had lost is recovered: `91% [88%, 94%]`.
        reason: why it was skipped, or could not be read.
        limit: the limit of a model by which it could not be read, as the facts of the model call it; empty if none.
        way_out: what the user can do to have a skipped assertion judged; empty if nothing.
        why: what it means when it breaks, in the suite's words.
        required: whether it must not be skipped.
        waived_until: the last day of its waiver, as 2027-03-01; empty where it has none.
        waiver: the waiver's reason.
        expired: whether the waiver's last day was over when this was asked.
        command: what runs this assertion alone again.
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
    limit: str = ""
    way_out: str = ""
    why: str = ""
    required: bool = False
    waived_until: str = ""
    waiver: str = ""
    expired: bool = False
    command: str = ""

    @classmethod
    def to_come(cls, asked: PlannedAssertion, suite: str, command: str = "", name: str = "") -> AuditLine:
        """The line of an assertion that was not judged yet.

        Args:
            suite: the file as the user would type it.
            command: reproduces it.
            name: another than its id.
        """
        assertion, waiver = asked.assertion, asked.assertion.waive
        return cls(
            model=str(asked.checkpoint),
            suite=suite,
            id=name or assertion.id,
            outcome="",
            why=assertion.why or "",
            required=asked.suite.suite.required if assertion.required is None else assertion.required,
            waived_until="" if waiver is None else waiver.until.isoformat(),
            waiver="" if waiver is None else waiver.reason,
            expired=waiver is not None and waiver.expired(),
            command=command,
        )

    @classmethod
    def of(cls, asked: PlannedAssertion, suite: str, judgement: Judgement, name: str = "") -> AuditLine:
        """The line of a judged assertion."""
        return cls.to_come(asked, suite, name=name).judged(asked, judgement)

    def judged(self, asked: PlannedAssertion, judgement: Judgement) -> AuditLine:
        """The same line, with the judgement."""
        return replace(
            self,
            outcome=judgement.verdict.value,
            measure=asked.assertion.measure,
            expected=judgement.expected,
            read=_telling(judgement),
            amplified=judgement.amplified,
            recovered="" if judgement.recovered is None else share_text(judgement.recovered),
            why=asked.assertion.why or "",
        )

    @property
    def counted(self) -> str:
        """What the gate counts it as: Outcome.WAIVED where it is not held and a waiver in force excuses that."""
        excused = (
            bool(self.waived_until)
            and not self.expired
            and self.outcome not in (Outcome.HELD, Outcome.ERROR, Outcome.NOT_RUN, "")
        )
        return Outcome.WAIVED if excused else self.outcome

    def plain(self) -> dict[str, Any]:
        """The line as JSON can carry it."""
        return asdict(self)


def _telling(judgement: Judgement) -> str:
    """The row that decided: the worst where each head must hold, the best where some must; and how the others did."""
    row = judgement.rows[0]
    before = f", baseline {number(row.baseline)}" if row.baseline is not None else ""
    shown = f"{row.name} {number(row.mean)} {interval_text(row.interval)} {judgement.reading.unit}".strip()
    return f"{shown}{before}{_others(judgement)}"


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
    """What a report says of one checkpoint beside the outcomes of its assertions.

    Attributes:
        facts: (label, text) pairs.
        refused: tests in Python that failed by a limit of the model: (limit, measure, test).
    """

    model: str
    facts: Sequence[tuple[str, str]]
    refused: Sequence[tuple[str, str, str]] = ()


@printable_lines
def summary_lines(audited: Iterable[Audited], lines: Sequence[AuditLine]) -> Iterator[tuple[str, str]]:
    """The report as (text, outcome) pairs; outcome is empty for lines that are no verdict."""
    for model in audited:
        own = [line for line in lines if line.model == model.model]
        if not own and not model.refused:
            continue
        yield f"model     {model.model}", ""
        for label, text in model.facts:
            yield f"{label:<9} {text}", ""
        yield from _table(own)
        yield from _waivers(own)
        refused = [(line.limit, line.measure, line.id) for line in own if line.limit]
        yield from _limits(refused, Outcome.ERROR.said)
        yield from _limits(model.refused, "failed in Python")
        yield from _reasons(own)
        if own:
            yield _counts(own), ""


def _table(lines: Sequence[AuditLine]) -> Iterator[tuple[str, str]]:
    width = max((len(line.id) for line in lines), default=0)
    for suite in dict.fromkeys(line.suite for line in lines):
        own = [line for line in lines if line.suite == suite and line.outcome != Outcome.NOT_RUN]
        if own:
            yield suite, ""
        for line in own:
            if line.outcome not in (Outcome.SKIPPED, Outcome.ERROR):
                note = f"; {line.recovered} recovered" if line.recovered else ""
                note += "  (amplified)" if line.amplified else ""
                text = f"  {line.outcome:<10} {line.id:<{width}}  {line.read}, expected {line.expected}"
                yield text + note + _waived(line), line.outcome
            else:
                needed = "  (required)" if line.required and line.outcome == Outcome.SKIPPED else ""
                yield f"  {line.outcome:<10} {line.id}{needed}{_waived(line)}", line.outcome
            if line.outcome == Outcome.BROKEN and line.why:
                yield f"{'':<13}why: {line.why}", ""


def _waived(line: AuditLine) -> str:
    return "  (waived)" if line.counted == Outcome.WAIVED else ""


def _waivers(lines: Sequence[AuditLine]) -> Iterator[tuple[str, str]]:
    """Every waiver, with what it does now."""
    for line in lines:
        if not line.waived_until or line.outcome == Outcome.NOT_RUN:
            continue
        if line.outcome == Outcome.HELD:
            does = "it holds: remove the waiver"
        elif line.expired:
            does = "the waiver has EXPIRED and has no effect"
        elif line.counted == Outcome.WAIVED:
            does = f"{line.outcome.lower()}, does not fail the gate"
        else:
            does = "it could not be read, which a waiver does not cover"
        text = f"waiver    {line.id} until {line.waived_until}: {line.waiver} ({does})"
        yield text, line.outcome if line.expired else ""


def _limits(refused: Sequence[tuple[str, str, str]], said: str) -> Iterator[tuple[str, str]]:
    """For each limit of the model, whose reason is among its facts, the measures that it refused and where."""
    for limit in dict.fromkeys(limit for limit, _, _ in refused):
        own: dict[str, list[str]] = {}
        for other, measure, where in refused:
            if other == limit:
                own.setdefault(measure, []).append(where)
        measures = ", ".join(f"{measure} ({', '.join(names)})" for measure, names in own.items())
        count = sum(map(len, own.values()))
        yield f'{count} {said}: limit "{limit}" of the model, shown above, refuses {measures}', Outcome.ERROR


def _reasons(lines: Sequence[AuditLine]) -> Iterator[tuple[str, str]]:
    """Why assertions were skipped or could not be read, each reason once."""
    for outcome in (Outcome.ERROR, Outcome.SKIPPED):
        reasons = Counter(line.reason for line in lines if line.outcome == outcome and not line.limit)
        for reason, count in reasons.items():
            first, *more = reason.split("\n")
            yield f"{count} {outcome.said}: {first}", outcome
            yield from ((f"  {line}", outcome) for line in more)


def _counts(lines: Sequence[AuditLine]) -> str:
    counts = Counter(line.outcome for line in lines)
    said = (f"{counts[outcome]} {outcome.said}" for outcome in Outcome if counts[outcome])
    return "verdicts  " + ", ".join(said)
