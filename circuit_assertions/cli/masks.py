"""`circuit-assertions masks`: which heads carry what a task's counterfactual can change alone, by learned masks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli.options import (
    add_lender,
    add_model_and_task,
    add_opening,
    count,
    lender_of,
    one_checkpoint,
    opening_of,
    progress_on_stderr,
    whole,
)
from circuit_assertions.cli.output import Outcome
from circuit_assertions.cli.task_options import add_keys_of_kinds, keys_of_kinds

__all__ = ["add_masks"]


def add_masks(verbs: Any) -> None:
    """Add the verb to the parser's."""
    masks = verbs.add_parser(
        "masks", help="learn which heads carry what a task's counterfactual changes (desiderata-based masking)"
    )
    add_model_and_task(masks)
    masks.add_argument("--prompts", type=count, metavar="N", help="how many prompts; default the task's own number")
    masks.add_argument(
        "--carries",
        type=lambda text: [word.strip() for word in text.split(",") if word.strip()],
        metavar="A,B,...",
        help="what heads are to carry; default everything that the task's counterfactual can change alone",
    )
    masks.add_argument("--circuit", type=Path, metavar="FILE", help="a circuit file whose roles are compared")
    masks.add_argument("--seed", type=whole, default=0, metavar="N", help="of the order of prompts (default 0)")
    masks.add_late = add_keys_of_kinds
    add_lender(masks)
    add_opening(masks)
    masks.add_argument("--json", action="store_true", help="print the result as JSON, and only that")
    masks.epilog = (
        "Without --task, it is the first kind of task whose counterfactual can change things alone. Masks are learned "
        "in memory; nothing is written."
    )
    masks.set_defaults(run=_masks)


def _masks(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.assertions.task_lookup import find_task
    from circuit_assertions.tasks import kinds

    able = [kind for kind, declared in kinds().items() if declared.changes]
    name, task = find_task(given.task or able[0], {"prompts": given.prompts} | keys_of_kinds(given))
    if not task.changes:
        raise CircuitAssertionsError(
            f"{name} is a task of kind {task.kind}, whose counterfactual changes no single thing that heads could "
            f"carry: give a task of kind {' or '.join(able)}"
        )
    wanted = given.carries or list(task.changes)
    checkpoint, opening = one_checkpoint(given.model), opening_of(given, lender_of(given))

    from circuit_assertions.assertions.loading import load_circuit
    from circuit_assertions.audit import Audit
    from circuit_assertions.diagnosis.masks import find_mask
    from circuit_assertions.report.masks import masks_lines
    from circuit_assertions.results.from_masks import masks_result

    circuit = None if given.circuit is None else load_circuit(given.circuit)
    audit = Audit(opening)
    with progress_on_stderr() as progress:
        found = [find_mask(audit, checkpoint, task, what, seed=given.seed, tell=progress) for what in wanted]
    result = masks_result(audit, checkpoint, task, found, circuit, given.circuit)
    return Outcome(result.to_json() if given.json else "\n".join(masks_lines(result)))
