"""One judged assertion in words: what was expected, what was read, on the baseline too, and the worst prompts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from circuit_assertions.measures.figures import number
from circuit_assertions.printable import printable
from circuit_assertions.results.audit import AssertionResult, HeadFinding, WorstPrompts
from circuit_assertions.results.values import Figure, Reading
from circuit_assertions.verdict_words import Outcome

__all__ = ["context_lines", "explain", "figure_text", "interval_text", "share_text"]

_MOST_ROWS = 10
_MOST_CANDIDATES = 3  # shown where any head would have done and none did
_WIDTH = 100


def explain(result: AssertionResult) -> str:
    """The text of a failure, of an assertion that was judged."""
    return "\n".join(map(printable, _lines(result)))


def interval_text(figure: Figure) -> str:
    """`[0.41, 0.47]`."""
    return f"[{number(figure.low)}, {number(figure.high)}]"


def figure_text(figure: Figure) -> str:
    """`0.44 [0.41, 0.47]`."""
    return f"{number(figure.mean)} {interval_text(figure)}"


def share_text(share: Figure) -> str:
    """`91% [88%, 94%]`."""
    low, mean, high = (f"{round(100 * value)}%" for value in (share.low, share.mean, share.high))
    return f"{mean} [{low}, {high}]"


def context_lines(reading: Reading) -> Iterator[str]:
    """What the measure searched before the reading, and the controls that it is compared with, one per line."""
    for name, text in list(reading.found.items())[:_MOST_ROWS]:
        yield f"search    {textwrap.shorten(f'{name}: {text}', _WIDTH, placeholder=' ...')}"
    for name, figure in reading.controls.items():
        yield f"control   {name} {figure_text(figure)}"


def _row_lines(result: AssertionResult) -> Iterator[str]:
    """The heads (or the model) one per line, the decisive ones first."""
    most = _MOST_CANDIDATES if result.of_some else _MOST_ROWS
    width = max(len(row.name) for row in result.rows)
    for row in result.rows[:most]:
        named = f"{row.name:<{width}}  " if row.name else ""
        verdict = f"  {row.verdict}" if len(result.rows) > 1 else ""
        yield f"{named}{_row_text(row)}{verdict}"
    if len(result.rows) > most:
        others = "further heads, none better" if result.of_some else "more heads"
        yield f"and {len(result.rows) - most} {others}"


def _row_text(row: HeadFinding) -> str:
    text = figure_text(row.figure)
    if row.baseline is not None:
        text += f"  baseline {number(row.baseline)}"
    for finding in row.findings:
        if finding.read and finding.verdict != Outcome.HELD:
            text += f"  {finding.read}"
    return text


def _lines(result: AssertionResult) -> Iterator[str]:
    reading, first = result.reading, result.rows[0]
    assert reading is not None
    shown = f"{first.name} {figure_text(first.figure)} {reading.unit}".strip()
    yield f"{result.outcome}: {shown}, expected {result.expected}"  # pytest's short summary shows this line alone
    if result.why:
        yield f"  {result.why}"
    yield f"  expected  {result.subject} {result.expected}"
    rows = list(_row_lines(result))
    yield f"  measured  {rows[0]}"
    for row in rows[1:]:
        yield f"            {row}"
    yield f"  over      {reading.prompts} prompts; unit: {reading.unit}; 95 % intervals"
    for line in context_lines(reading):
        yield f"  {line}"
    if result.recovered is not None:
        yield f"  recovered {share_text(result.recovered)} of what the corrupted checkpoint lost of it"
    if result.assumed:
        yield f"  circuit   {result.assumed}"
    for left_out in result.not_judged:
        yield f"  skipped   {left_out}"
    if result.worst is not None:
        yield from _worst_prompts(result.worst)
    yield f"  reproduce {result.command}"


def _worst_prompts(worst: WorstPrompts) -> Iterator[str]:
    whose = f" of {worst.row}" if worst.row else ""
    yield f"  worst     {worst.which} prompts{whose}"
    for value, text in worst.prompts:
        yield f"            {number(value):>7}  {text}"
