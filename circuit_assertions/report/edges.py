"""The result of the `edges` verb as text: a table of the strongest edges, and how to confirm one exactly."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_assertions.measures.figures import signed
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.tables import Column, table
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
    rows = [("sender", "receiver", "mostly at", "score", "share")]
    for edge in result.edges:
        numbers = (signed(edge.score), f"{100 * edge.share:.1f} %")
        rows.append((edge.sender, edge.receiver, edge.mostly_at, *numbers))
    yield from table(rows, *[Column()] * 3, Column(align="right"), Column(align="right"))
    yield ""
    shown = sum(edge.share for edge in result.edges)
    yield f"{len(result.edges)} of {result.edges_of_model} edges, {100 * shown:.1f} % of the size of all of them"
