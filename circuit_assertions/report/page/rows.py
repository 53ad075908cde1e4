"""The assertions of a report: what was expected, what was read, and why it matters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from circuit_assertions.measures.figures import number
from circuit_assertions.report.explaining import (
    context_rows,
    figure_text,
    intervals_text,
    percent_text,
    share_text,
    without_chat_text,
)
from circuit_assertions.report.verdict_sentence import WORST_FIRST, tone_of
from circuit_assertions.results.audit import AssertionResult, HeadFinding
from circuit_assertions.results.values import Figure

__all__ = ["HeadRow", "Row", "row_of", "rows_of", "size_text"]

_MOST_HEADS = 10  # in the details of an assertion


@dataclass(frozen=True)
class HeadRow:
    """One head (or the model) of an assertion, in words."""

    name: str
    read: str
    baseline: str
    verdict: str
    tone: str
    findings: str


@dataclass(frozen=True)
class Row:
    """One assertion on one model, in words.

    Attributes:
        rank: of its verdict; the worst has 0.
        value, before: what was read and the baseline's, by which tables are sorted; None where nothing was read.
        heads: the first ones; `left_out` says how many there are beyond them.
        facts: label and text of everything else that is known.
        worst: values and prompts.
    """

    anchor: str
    verdict: str
    tone: str
    rank: int
    id: str
    where: str
    model: str
    expected: str
    read: str
    beside: str
    value: float | None
    baseline: str
    before: float | None
    prompts: int | None
    why: str
    reason: str
    heads: tuple[HeadRow, ...]
    left_out: str
    facts: tuple[tuple[str, str], ...]
    worst_of: str
    worst: tuple[tuple[str, str], ...]
    command: str


def rows_of(lines: Sequence[AssertionResult], most_heads: int = _MOST_HEADS) -> list[Row]:
    """One row for each assertion, in their order."""
    return [row_of(line, f"assertion-{place}", most_heads) for place, line in enumerate(lines, start=1)]


def row_of(line: AssertionResult, anchor: str, most_heads: int = _MOST_HEADS) -> Row:
    """An assertion in words.

    Args:
        anchor: by which it can be linked to.
        most_heads: how many heads are listed.
    """
    first = line.rows[0] if line.rows else None
    reading, worst = line.reading, line.worst
    unit = "" if reading is None else reading.unit
    return Row(
        anchor=anchor,
        verdict=line.counted,
        tone=tone_of(line.counted),
        rank=next((place for place, word in enumerate(WORST_FIRST) if word == line.counted), len(WORST_FIRST)),
        id=line.id,
        where=line.suite if line.line is None else f"{line.suite}:{line.line}",
        model=line.model,
        expected=f"{line.subject} {line.expected}".strip(),
        read="" if first is None else f"{first.name} {figure_text(first.figure)} {unit}".strip(),
        beside=_beside(line),
        value=None if first is None else first.figure.mean,
        baseline="" if first is None or first.baseline is None else number(first.baseline),
        before=None if first is None else first.baseline,
        prompts=None if reading is None else reading.prompts,
        why=line.why,
        reason=line.reason,
        heads=tuple(map(_head, line.rows[:most_heads])) if len(line.rows) > 1 else (),
        left_out=f"and {len(line.rows) - most_heads} more heads" if len(line.rows) > most_heads else "",
        facts=tuple(_facts(line)),
        worst_of="" if worst is None else f"{worst.which} prompts{f' of {worst.row}' * bool(worst.row)}",
        worst=() if worst is None else tuple((number(value), text) for value, text in worst.prompts),
        command=line.command,
    )


def size_text(figure: Figure | None) -> str:
    """A figure with its interval; empty for none."""
    return "" if figure is None else figure_text(figure)


def _head(row: HeadFinding) -> HeadRow:
    findings = "; ".join(finding.read for finding in row.findings if finding.read)
    before = "" if row.baseline is None else number(row.baseline)
    return HeadRow(row.name or "model", figure_text(row.figure), before, row.verdict, tone_of(row.verdict), findings)


def _beside(line: AssertionResult) -> str:
    """How the other heads did."""
    if len(line.rows) < 2:
        return ""
    alike = sum(row.verdict == line.rows[0].verdict for row in line.rows)
    if line.of_some and alike == len(line.rows):
        return f"the best of {len(line.rows)} heads"
    return f"{alike} of {len(line.rows)} heads {line.rows[0].verdict.lower()}"


def _facts(line: AssertionResult) -> Iterator[tuple[str, str]]:
    reading = line.reading
    if line.way_out:
        yield "way out", line.way_out
    if line.waiver is not None:
        past = " (expired)" if line.expired else ""
        yield "waiver", f"until {line.waiver.until}{past}: {line.waiver.reason}"
    if reading is not None:
        of_most = f" of at most {line.budget}" if line.budget is not None else ""
        yield "prompts", f"{reading.prompts}{of_most}"
        if line.level is not None:
            yield "intervals", intervals_text(line.level, line.confidence, "the suite's")
        yield from context_rows(reading)
    if line.enough is not None:
        yield "to decide", f"about {line.enough} prompts, if further ones read as these do"
    if line.recovered is not None:
        yield "recovered", f"{share_text(line.recovered)} of what the corrupted checkpoint lost of it"
    if line.amplified:
        yield "amplified", "far above the baseline"
    for name, one in sorted(line.strata.items()):
        yield f"templates {name}", f"{one.verdict} {figure_text(one.row.figure)}, {one.prompts} prompts"
    if line.without_chat is not None:
        yield "chat", without_chat_text(line.without_chat)
    yield from (("settings", told) for told in line.across)
    yield from (("skipped", told) for told in line.not_judged)
    if line.assumed:
        yield "circuit", line.assumed
    if line.required:
        yield "required", "it must not be skipped"
    if reading is None and line.confidence is not None:
        yield "confidence", percent_text(line.confidence)
