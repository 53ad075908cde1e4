"""One judged assertion in words: what was expected, what was read, on the baseline too, and the worst prompts."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator

from circuit_assertions.assertions.deciding import MOST_TIMES
from circuit_assertions.measures.figures import number
from circuit_assertions.printable import printable
from circuit_assertions.report.tables import Column, table
from circuit_assertions.results.audit import AssertionResult, HeadFinding, WithoutChat, WorstPrompts
from circuit_assertions.results.values import Figure, Reading
from circuit_assertions.verdict_words import Outcome

__all__ = [
    "FIGURES",
    "LABELS",
    "context_rows",
    "explain",
    "figure_cells",
    "figure_text",
    "interval_text",
    "intervals_text",
    "percent",
    "percent_text",
    "share_text",
    "without_chat_text",
]

_MOST_ROWS = 10
_MOST_CANDIDATES = 3  # shown where any head would have done and none did
_WIDTH = 100
FIGURES = (Column(align="right", gap=1), Column())  # a mean and its interval
LABELS = Column(least=9, gap=1)


def explain(result: AssertionResult) -> str:
    """The text of a failure, of an assertion that was judged."""
    return "\n".join(map(printable, _lines(result)))


def interval_text(figure: Figure) -> str:
    """`[0.41, 0.47]`."""
    return f"[{number(figure.low)}, {number(figure.high)}]"


def intervals_text(level: float | None, confidence: float | None, of_what: str) -> str:
    """What intervals promise: `99.979 % intervals, so that all of the suite's hold together with 99 %`.

    Args:
        level: of each interval.
        confidence: of all together.
        of_what: whose intervals they are.
    """
    if level is None or confidence is None:
        return "intervals"
    if level == confidence:
        return f"{percent_text(level)} intervals"
    return f"{percent_text(level)} intervals, so that all of {of_what} hold together with {percent_text(confidence)}"


def percent_text(confidence: float) -> str:
    """`99.979 %`: two digits of what is missing to 100 %."""
    missing = 100 * (1 - confidence)
    digits = max(0, 1 - math.floor(math.log10(missing))) if missing > 0 else 0
    return f"{round(100 - missing, digits):.10g} %"


def figure_text(figure: Figure) -> str:
    """`0.44 [0.41, 0.47]`."""
    return f"{number(figure.mean)} {interval_text(figure)}"


def share_text(share: Figure) -> str:
    """`91% [88%, 94%]`."""
    low, mean, high = map(percent, (share.low, share.mean, share.high))
    return f"{mean} [{low}, {high}]"


def percent(share: float) -> str:
    """`91%`; what rounds to none has no sign."""
    return f"{round(100 * share)}%"


def without_chat_text(one: WithoutChat) -> str:
    """`without the chat template: BROKEN (0.52 [0.48, 0.55])`."""
    shown = one.reason if one.row is None else f"{one.row.name} {figure_text(one.row.figure)}".strip()
    return f"without the chat template: {one.verdict} ({shown})"


def context_rows(reading: Reading) -> Iterator[tuple[str, str]]:
    """What the measure searched before the reading, and the controls that it is compared with, each with a label."""
    for name, text in list(reading.found.items())[:_MOST_ROWS]:
        yield "search", textwrap.shorten(f"{name}: {text}", _WIDTH, placeholder=" ...")
    for name, figure in reading.controls.items():
        yield "control", f"{name} {figure_text(figure)}"


def figure_cells(figure: Figure) -> tuple[str, str]:
    """A figure in two cells, for the columns `FIGURES`."""
    return number(figure.mean), interval_text(figure)


def _row_lines(result: AssertionResult) -> Iterator[str]:
    """The heads (or the model) one per line, the decisive ones first."""
    most = _MOST_CANDIDATES if result.of_some else _MOST_ROWS
    rows = [(*_cells(row), row.verdict if len(result.rows) > 1 else "") for row in result.rows[:most]]
    yield from table(rows, Column(), *FIGURES)
    if len(result.rows) > most:
        others = "further heads, none better" if result.of_some else "more heads"
        yield f"and {len(result.rows) - most} {others}"


def _cells(row: HeadFinding) -> tuple[str, ...]:
    baseline = f"baseline {number(row.baseline)}" if row.baseline is not None else ""
    findings = (finding.read for finding in row.findings if finding.read and finding.verdict != Outcome.HELD)
    return row.name, *figure_cells(row.figure), baseline, "  ".join(findings)


def _lines(result: AssertionResult) -> Iterator[str]:
    """The first line, which pytest's short summary shows alone, and what stands under it."""
    reading, first = result.reading, result.rows[0]
    assert reading is not None
    shown = f"{first.name} {figure_text(first.figure)} {reading.unit}".strip()
    yield f"{result.outcome}: {shown}, expected {result.expected}"
    if result.why:
        yield f"  {result.why}"
    yield from table(list(_told(result, reading)), LABELS, indent=2)


def _told(result: AssertionResult, reading: Reading) -> Iterator[tuple[str, str]]:
    yield "expected", f"{result.subject} {result.expected}"
    yield from _labelled("measured", _row_lines(result))
    of_most = f" of at most {result.budget}" if result.budget is not None else ""
    yield "over", f"{reading.prompts}{of_most} prompts; unit: {reading.unit}"
    yield "level", intervals_text(result.level, result.confidence, "the suite's")
    if result.outcome == Outcome.UNRESOLVED:
        yield "to decide", result.short or _to_decide(result, reading.prompts)
    yield from _labelled("templates", _strata_lines(result))
    yield from context_rows(reading)
    if result.recovered is not None:
        yield "recovered", f"{share_text(result.recovered)} of what the corrupted checkpoint lost of it"
    if result.assumed:
        yield "circuit", result.assumed
    for told in result.across:
        yield "settings", told
    if result.without_chat is not None:
        yield "chat", without_chat_text(result.without_chat)
    for left_out in result.not_judged:
        yield "skipped", left_out
    if result.worst is not None:
        yield from _labelled("worst", _worst_prompts(result.worst))
    yield "reproduce", result.command


def _strata_lines(result: AssertionResult) -> Iterator[str]:
    """The kinds of templates one per line, where they disagree."""
    if result.strata:
        yield "disagree:"
    rows = [
        (name, *_cells(one.row), f"{one.prompts} prompts", one.verdict) for name, one in sorted(result.strata.items())
    ]
    yield from table(rows, Column(), Column(), *FIGURES)


def _to_decide(result: AssertionResult, prompts: int) -> str:
    """What would resolve an assertion that is UNRESOLVED."""
    if result.enough is None:
        return f"not even {MOST_TIMES * prompts} such prompts would do: the reading is too near to the bound"
    most = 2 * result.enough
    draws = "seed" in (result.reading.task if result.reading is not None else {})
    way = f": `prompts: {{start: {prompts}, budget: {most}}}` asks more only where it must" if draws else ""
    return f"about {result.enough} prompts, if further ones read as these do{way}"


def _worst_prompts(worst: WorstPrompts) -> Iterator[str]:
    whose = f" of {worst.row}" if worst.row else ""
    yield f"{worst.which} prompts{whose}"
    yield from table([(number(value), text) for value, text in worst.prompts], Column(least=7, align="right"))


def _labelled(label: str, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Lines of which the first has a label."""
    yield from ((label if place == 0 else "", line) for place, line in enumerate(lines))
