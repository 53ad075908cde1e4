"""One judged assertion in words: what was expected, what was read, on the baseline too, and the worst prompts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import numpy as np

from circuit_assertions.assertions import Assertion, Expectation, Judgement, Row, Verdict
from circuit_assertions.measures import Interval, Reading
from circuit_assertions.measures.figures import Figure
from circuit_assertions.ordering import ranked
from circuit_assertions.printable import printable

__all__ = ["context_lines", "explain", "interval_text", "number", "share_text"]

_MOST_ROWS = 10
_MOST_CANDIDATES = 3  # shown where any head would have done and none did
_MOST_PROMPTS = 3
_WIDTH = 100
_NOTHING = 1e-6  # what is smaller is rounding, and reads otherwise with other threads


def explain(judgement: Judgement, assertion: Assertion, again: str) -> str:
    """The text of a failure.

    Args:
        again: the command that reproduces it.
    """
    return "\n".join(map(printable, _lines(judgement, assertion, again)))


def number(value: float) -> str:
    """A reading as people compare it: three significant digits, and a sign where it is negative."""
    if abs(value) < _NOTHING:
        return "0"
    short = f"{value:.3g}"
    return f"{value:.2f}" if 0.1 <= abs(float(short)) < 1000 else short


def interval_text(interval: Interval) -> str:
    """`[0.41, 0.47]`."""
    return f"[{number(interval.low)}, {number(interval.high)}]"


def share_text(share: Figure) -> str:
    """`91% [88%, 94%]`."""
    low, mean, high = (f"{round(100 * value)}%" for value in (share.interval.low, share.mean, share.interval.high))
    return f"{mean} [{low}, {high}]"


def context_lines(reading: Reading) -> Iterator[str]:
    """What the measure searched before the reading, and the controls that it is compared with, one per line."""
    for name, text in list(reading.settings.get("found", {}).items())[:_MOST_ROWS]:
        yield f"search    {textwrap.shorten(f'{name}: {text}', _WIDTH, placeholder=' ...')}"
    for name, values in reading.beside.items():
        yield f"control   {name} {number(float(values.mean()))} {interval_text(reading.interval(values))}"


def _row_lines(judgement: Judgement) -> Iterator[str]:
    """The heads (or the model) one per line, the decisive ones first."""
    most = _MOST_CANDIDATES if judgement.of_some else _MOST_ROWS
    width = max(len(row.name) for row in judgement.rows)
    for row in judgement.rows[:most]:
        named = f"{row.name:<{width}}  " if row.name else ""
        verdict = f"  {row.verdict}" if len(judgement.rows) > 1 else ""
        yield f"{named}{_row_text(row)}{verdict}"
    if len(judgement.rows) > most:
        others = "further heads, none better" if judgement.of_some else "more heads"
        yield f"and {len(judgement.rows) - most} {others}"


def _row_text(row: Row) -> str:
    text = f"{number(row.mean)} {interval_text(row.interval)}"
    if row.baseline is not None:
        text += f"  baseline {number(row.baseline)}"
    for finding in row.findings:
        if finding.read and finding.verdict is not Verdict.HELD:
            text += f"  {finding.read}"
    return text


def _lines(judgement: Judgement, assertion: Assertion, again: str) -> Iterator[str]:
    reading = judgement.reading
    first = judgement.rows[0]
    shown = f"{first.name} {number(first.mean)} {interval_text(first.interval)} {reading.unit}".strip()
    yield f"{judgement.verdict}: {shown}, expected {judgement.expected}"  # pytest's short summary shows this line alone
    if assertion.why:
        yield f"  {assertion.why}"
    yield f"  expected  {_subject(assertion)} {judgement.expected}"
    rows = list(_row_lines(judgement))
    yield f"  measured  {rows[0]}"
    for row in rows[1:]:
        yield f"            {row}"
    yield f"  over      {reading.prompts} prompts; unit: {reading.unit}; 95 % intervals"
    for line in context_lines(reading):
        yield f"  {line}"
    if judgement.recovered is not None:
        yield f"  recovered {share_text(judgement.recovered)} of what the corrupted checkpoint lost of it"
    if judgement.assumed:
        yield f"  circuit   {judgement.assumed}"
    for left_out in judgement.not_judged:
        yield f"  skipped   {left_out}"
    if judgement.verdict is not Verdict.HELD:
        yield from _worst_prompts(judgement, assertion.expect)
    yield f"  reproduce {again}"


def _subject(assertion: Assertion) -> str:
    told = assertion.operands
    where = f" from {told['query']} to {told['key']}" if "query" in told and "key" in told else ""
    chosen = assertion.heads or assertion.components
    if chosen is None or assertion.of_all_heads:
        return f"{assertion.measure}{where}"
    who = chosen if isinstance(chosen, str) else ", ".join(str(component) for component in chosen)
    return f"{assertion.measure}{where} of {who}"


def _worst_prompts(judgement: Judgement, expect: Expectation) -> Iterator[str]:
    """The prompts that lie furthest on the bad side of the row that stands first."""
    reading, row = judgement.reading, judgement.rows[0]
    if not any(reading.texts):
        return
    values, too_high = _values_of(reading, row), _errs_upwards(judgement, expect)
    order = ranked(range(len(values)), lambda index: values[index] if too_high else -values[index])[:_MOST_PROMPTS]
    whose = f" of {row.name}" if row.name else ""
    yield f"  worst     {'highest' if too_high else 'lowest'} prompts{whose}"
    for index in order:
        yield f"            {number(float(values[index])):>7}  {reading.texts[index]}"


def _errs_upwards(judgement: Judgement, expect: Expectation) -> bool:
    """Whether high values are the bad ones; between two bounds, those on the side where the row lies."""
    lower, upper = expect.limits
    if lower is None or upper is None:
        return judgement.low_is_good
    return judgement.rows[0].mean > (lower + upper) / 2


def _values_of(reading: Reading, row: Row) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    named = {str(component): component for component in reading.components}
    if row.name in named:
        return reading.of_head(named[row.name])
    return reading.values if reading.values.ndim == 1 else reading.values.mean(axis=1)
