"""`circuit-assertions diagnose`: where a checkpoint broke beside its baseline, and whether it healed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli.options import add_opening, open_audit

__all__ = ["add_diagnose"]


def add_diagnose(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("diagnose", help="where a checkpoint broke beside its baseline, and whether it healed")
    verb.add_argument("--model", required=True, help="the checkpoint that is asked about")
    verb.add_argument("--baseline", required=True, help="the healthy checkpoint that it came from")
    verb.add_argument("--corrupted", help="a known-bad checkpoint between them, that recovery is judged against")
    verb.add_argument("--task", default="ioi", help="ioi (default), repeated-tokens, a task file, or suite.yaml::task")
    verb.add_argument(
        "--circuit",
        type=Path,
        metavar="FILE",
        help="the baseline's circuit; default the file of suites/circuits that was found on the baseline, else it is "
        "discovered",
    )
    verb.add_argument("--prompts", type=int, metavar="N", help="how many prompts; default the task's, at most 128")
    add_opening(verb)
    verb.add_argument("--json", action="store_true", help="print the diagnosis as JSON, and only that")
    verb.epilog = "Exit code 0: not corrupted, or recovered. 1: corrupted, or not recovered. 2: could not be diagnosed."
    verb.set_defaults(run=_diagnose)


def _diagnose(given: argparse.Namespace, rest: Sequence[str]) -> int:
    from circuit_assertions.assertions.asking import find_task
    from circuit_assertions.checkpoints import find_checkpoints
    from circuit_assertions.cli.following import follow_run

    if len(find_checkpoints(given.model)) > 1:
        return follow_run(given)
    called, task = find_task(given.task, {"prompts": given.prompts})
    model, baseline = _one(find_checkpoints(given.model)), _one(find_checkpoints(given.baseline))
    corrupted = _one(find_checkpoints(given.corrupted)) if given.corrupted else None

    from circuit_assertions.diagnosis.binding import circuit_of
    from circuit_assertions.diagnosis.diagnosing import check_fit, diagnose
    from circuit_assertions.report.diagnosed import diagnosis_lines
    from circuit_assertions.report.diagnosed_data import diagnosis_json

    audit = open_audit(given, baseline)
    check_fit(audit, model, baseline, *([corrupted] if corrupted else []))
    circuit = circuit_of(audit, baseline, task, called, given.circuit)
    found = diagnose(
        audit,
        model,
        baseline,
        task,
        circuit.roles,
        circuit=circuit.circuit,
        called=called,
        corrupted=corrupted,
        tell=audit.progress,
    )
    if given.json:
        print(diagnosis_json(found))
    else:
        print("\n".join(line for line, _ in diagnosis_lines(found)))
    if found.recovery is not None:
        return 0 if found.recovery.how == "RECOVERED" else 1
    return 1 if found.verdict == "CORRUPTED" else 0


def _one(checkpoints: Sequence[Any]) -> Any:
    if len(checkpoints) > 1:
        raise CircuitAssertionsError(f"{checkpoints[0].given} is a training run: name one of its checkpoints")
    return checkpoints[0]
