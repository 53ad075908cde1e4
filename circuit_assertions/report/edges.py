"""The result of the `edges` verb as text: a table of the strongest edges, and how to confirm one exactly."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_assertions.measures.figures import signed
from circuit_assertions.printable import printable_lines
from circuit_assertions.results import EdgesResult

__all__ = ["edges_lines"]


@printable_lines
def edges_lines(result: EdgesResult) -> Iterator[str]:
    """The edges as a table."""
    method = "EAP" if result.steps == 1 else f"EAP-IG, {result.steps} steps"
    yield f"{result.checkpoint} on {result.called}: {result.prompts} prompts, scores in {result.unit}"
    yield f"approximate ({method}), for triage only; to confirm an edge, put this into a suite:"
    yield from (f"  {line}" for line in result.to_confirm)
    yield ""
    table = [("sender", "receiver", "mostly at", "score", "share")]
    for edge in result.edges:
        numbers = (signed(edge.score), f"{100 * edge.share:.1f} %")
        table.append((edge.sender, edge.receiver, edge.mostly_at, *numbers))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(map(str.ljust, row[:3], widths)) + _right(row[3:], widths[3:])
    yield ""
    shown = sum(edge.share for edge in result.edges)
    yield f"{len(result.edges)} of {result.edges_of_model} edges, {100 * shown:.1f} % of the size of all of them"


def _right(cells: tuple[str, ...], widths: list[int]) -> str:
    return "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
