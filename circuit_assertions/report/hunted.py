"""The result of the `hunt` verb as text: the assertion on average, and the simplest prompt on which it fails."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_assertions.measures.figures import number
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.explaining import figure_text
from circuit_assertions.report.tables import Column, table
from circuit_assertions.results.hunt import FailingPrompt, HuntResult
from circuit_assertions.verdict_words import Outcome

__all__ = ["hunt_lines"]

_LABELS = Column(least=11)
_MOST_ROWS = 10


@printable_lines
def hunt_lines(result: HuntResult) -> Iterator[tuple[str, str]]:
    """The search as (text, verdict) pairs."""
    rows = [*_facts(result), *_outcome(result)]
    if result.record is not None:
        rows.append(("record", result.record, ""))
    texts = table([(label, text) for label, text, _ in rows], _LABELS)
    yield from zip(texts, (verdict for _, _, verdict in rows), strict=True)


def _facts(result: HuntResult) -> Iterator[tuple[str, str, str]]:
    average = result.average
    yield "model", result.model.checkpoint, ""
    if result.baseline is not None:
        yield "baseline", result.baseline, ""
    yield "assertion", f"{average.suite}::{average.id}: {average.subject} {average.expected}", ""
    if average.rows and average.reading is not None:
        first = average.rows[0]
        shown = f"{first.name} {figure_text(first.figure)} {average.reading.unit}".strip()
        alone = f"{result.failing} of these {'fails' if result.failing == 1 else 'fail'} alone"
        told = f"{average.outcome}: {shown} over {result.asked} prompts; {alone}"
        yield "average", told, average.outcome
    if average.outcome == Outcome.BROKEN:
        yield "search", "none: the assertion does not hold on average, so that any prompt may fail", ""
        for value, text in average.worst.prompts if average.worst is not None else ():
            yield "", f"{number(value)}  {text}", ""
        return
    least = f", missed by more than {number(result.by)}" if result.by else ""
    yield "search", f"at most {result.examples} prompts, seed {result.seed}{least}", ""


def _outcome(result: HuntResult) -> Iterator[tuple[str, str, str]]:
    found = result.found
    if result.average.outcome == Outcome.BROKEN:
        return
    unit = result.average.reading.unit if result.average.reading is not None else ""
    if found is None:
        yield "found", f"no prompt on which it fails, in {result.tried}", Outcome.HELD
        return
    if result.kept:
        yield "found", f"the prompt that {result.database} kept from an earlier run", ""
    else:
        steps = f", and made simpler in {result.simplified} further ones" if result.simplified else ""
        yield "found", f"after {result.tried} prompts{steps}", ""
    yield "prompt", found.text or f"tokens {' '.join(map(str, found.tokens))}", Outcome.BROKEN
    yield "", f"right {', '.join(found.right)}; wrong {', '.join(found.wrong)}", ""
    yield "chosen", ", ".join(f"{name} {_shown(value)}" for name, value in found.chosen.items()), ""
    for index, text in enumerate(_values(found, unit)):
        yield "reading" if index == 0 else "", text, ""
    if result.database is not None and not result.kept:
        yield "kept", f"in {result.database}: the next run begins with this prompt", ""


def _values(found: FailingPrompt, unit: str) -> Iterator[str]:
    for row in found.rows[:_MOST_ROWS]:
        before = f", baseline {number(row.baseline)}" if row.baseline is not None else ""
        missed = f", misses what is expected by {number(row.missed)}" if row.missed > 0 else ""
        yield f"{row.name} {number(row.value)} {unit}{before}{missed}".strip()
    if len(found.rows) > _MOST_ROWS:
        yield f"and {len(found.rows) - _MOST_ROWS} more heads, none worse"


def _shown(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, (list, tuple)) else "none" if value is None else str(value)
