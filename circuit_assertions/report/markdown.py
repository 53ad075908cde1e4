"""A report as Markdown: the verdict first, then what is worst. Whatever comes from elsewhere is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from circuit_assertions.printable import printable
from circuit_assertions.report.page.diagnosis import diagnoses_worst_first
from circuit_assertions.report.page.maps import map_group
from circuit_assertions.report.page.rows import Row, rows_of
from circuit_assertions.report.page.runs import runs_of
from circuit_assertions.report.verdict_sentence import gate_sentence, worst_first
from circuit_assertions.results import AuditResult
from circuit_assertions.results.circuit_shown import CircuitShown

__all__ = ["MOST_BYTES", "escaped", "markdown"]

MOST_BYTES = 1_000_000  # GitHub shows a summary of up to 1 MiB
_LAST = 200  # bytes kept for the line that says what was left out
_SPECIAL = re.compile(r"([\\`*_{}\[\]#~|!$])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "://": ":&#47;&#47;", "www.": "www&#46;"}


def markdown(result: AuditResult, most: int | None = None) -> str:
    """The report; parts that do not fit are left out, which its last line says.

    Args:
        most: bytes of UTF-8; None for as many as there are.
    """
    parts = list(_parts(result))
    if most is None:
        return "\n".join(text for _, text in parts) + "\n"
    taken, size, left = list[str](), 0, 0
    for is_row, text in parts:
        own = len(text.encode("utf-8")) + 1
        if left or size + own > most - _LAST:
            left += is_row
            continue
        taken.append(text)
        size += own
    if left:
        taken += ["", f"_{left} more rows do not fit here; `--circuit-report=report.md` writes all._"]
    return "\n".join(taken) + "\n"


def escaped(text: str) -> str:
    """Text in one line that means itself in Markdown, also in a cell of a table."""
    shown = _SPECIAL.sub(r"\\\1", printable(text))
    for special, entity in _ENTITIES.items():
        shown = shown.replace(special, entity)
    return shown


def _parts(result: AuditResult) -> Iterator[tuple[bool, str]]:
    """Lines, each with whether it is a row that counts as left out."""
    yield False, f"## {escaped(gate_sentence(result))}\n"
    yield False, f"{escaped(result.gate.line)}\n"
    sides = [f"model {model.model}" for model in result.models]
    sides += [f"baseline {result.baseline}"] if result.baseline else []
    sides += [f"corrupted {result.corrupted}"] if result.corrupted else []
    yield from ((False, f"- {escaped(side)}") for side in sides)
    yield from _table(
        "Diagnosis",
        ("Verdict", "Circuit", "Model", "Why", "Origin"),
        (
            (f"**{one.verdict}**", one.circuit, one.model, one.why, _origin(one.origin, one.components))
            for one in diagnoses_worst_first(result.diagnoses)
        ),
    )
    rows = rows_of(worst_first(result.assertions))
    several = len({row.model for row in rows}) > 1
    heads = ("Verdict", "Assertion", *(("Model",) if several else ()), "Expected", "Read", "Baseline", "Why it matters")
    yield from _table("Assertions", heads, (_cells(row, several) for row in rows))
    for view in runs_of(result):
        columns = [short for short, _ in view.columns]
        cells = ((row.id, *(f"{cell.verdict} {cell.read}".strip() for cell in row.cells)) for row in view.rows)
        yield from _table(f"Checkpoints: {view.title}", ("Assertion", *map(escaped, columns)), cells)
    for shown in result.circuits:
        yield from _heads(shown)
    yield from _settings(result)


def _origin(origin: str | None, components: Sequence[str]) -> str:
    if origin is None:
        return "not searched"
    return f"{origin}: {' '.join(components)}" if components else origin


def _cells(row: Row, several: bool) -> Iterator[str]:
    yield f"**{row.verdict}**"
    yield f"{row.id} ({row.where})"
    if several:
        yield row.model
    yield row.expected
    yield f"{row.read} {f'({row.beside})' * bool(row.beside)}".strip() or row.reason
    yield row.baseline
    yield row.why


def _heads(shown: CircuitShown) -> Iterator[tuple[bool, str]]:
    group = map_group(shown)
    if group is None:
        return
    heads = ("Head", "Roles", "Model", *(("Baseline", "Difference") if group.compared else ()))
    rows = (
        (one.name, one.roles, one.model, *((one.baseline, one.change) if group.compared else ()))
        for one in group.listed
        if one.roles
    )
    title = f"Heads of {shown.circuit} on {shown.model}: path effect, {shown.metric.unit}"
    yield from _table(title, heads, rows)


def _settings(result: AuditResult) -> Iterator[tuple[bool, str]]:
    facts = [("policy", result.policy.name), *result.versions.items()]
    facts += [(f"weights of {one.model}", one.facts.fingerprint) for one in result.models if one.facts is not None]
    if result.readings.cached:
        facts.append(("readings from the cache", f"{result.readings.cached} of {result.readings.all}"))
    yield from _table("Settings", ("Setting", "Value"), facts)


def _table(title: str, heads: Sequence[str], rows: Iterable[Iterable[str]]) -> Iterator[tuple[bool, str]]:
    """A table with a heading; nothing where it has no row. A cell that begins with ** is this module's own."""
    known = [tuple(row) for row in rows]
    if not known:
        return
    yield False, f"\n### {escaped(title)}\n"
    yield False, f"| {' | '.join(heads)} |"
    yield False, f"|{' --- |' * len(heads)}"
    for row in known:
        cells = (cell if place == 0 and cell.startswith("**") else escaped(cell) for place, cell in enumerate(row))
        yield True, f"| {' | '.join(cells)} |"
