"""`circuit-assertions edges`: the strongest edges between components, approximately."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from circuit_assertions.cli.options import (
    add_lender,
    add_model_and_task,
    add_opening,
    count,
    lender_of,
    one_checkpoint,
    opening_of,
    progress_on_stderr,
)
from circuit_assertions.cli.output import Outcome
from circuit_assertions.cli.task_options import add_keys_of_kinds, keys_of_kinds

__all__ = ["add_edges"]


def add_edges(verbs: Any) -> None:
    """Add the verb to the parser's."""
    edges = verbs.add_parser("edges", help="list the strongest edges between components, approximately: for triage")
    add_model_and_task(edges)
    edges.add_argument("--prompts", type=count, metavar="N", help="how many prompts; default the task's own number")
    edges.add_late = add_keys_of_kinds
    edges.add_argument(
        "--steps", type=count, default=5, metavar="N", help="points to average gradients over; 1 is EAP (default 5)"
    )
    edges.add_argument("--top", type=count, default=20, metavar="N", help="how many edges to list (default 20)")
    add_lender(edges)
    add_opening(edges)
    edges.add_argument("--json", action="store_true", help="print the edges as JSON, and only that")
    edges.set_defaults(run=_edges)


def _edges(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.assertions.task_lookup import find_task

    name, task = find_task(given.task, {"prompts": given.prompts} | keys_of_kinds(given))
    checkpoint, opening = one_checkpoint(given.model), opening_of(given, lender_of(given))

    from circuit_assertions.audit import Audit
    from circuit_assertions.diagnosis.edges import find_edges
    from circuit_assertions.report.edges import edges_lines
    from circuit_assertions.results.from_edges import edges_result

    with progress_on_stderr() as progress:
        found = find_edges(Audit(opening), checkpoint, task, called=name, steps=given.steps, tell=progress)
    result = edges_result(found, given.top)
    return Outcome(result.to_json() if given.json else "\n".join(edges_lines(result)))
