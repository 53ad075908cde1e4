"""`circuit-assertions diagnose`: what broke in a checkpoint compared with its baseline, and whether it recovered."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli.baseline_options import (
    add_comparing,
    asked_task,
    bound_to,
    every_prompt,
    held_against,
    refuse_other_circuit,
    suites_for,
)
from circuit_assertions.cli.options import open_audit, progress_on_stderr
from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.verdict_words import Overall

if TYPE_CHECKING:
    from circuit_assertions.checkpoints import Checkpoint
    from circuit_assertions.diagnosis import Diagnosis
    from circuit_assertions.report import Progress

__all__ = ["add_diagnose"]


def add_diagnose(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("diagnose", help="what broke compared with the baseline, and whether it recovered")
    add_comparing(verb, "the checkpoint to diagnose, or a training run", of_runs="for training runs: ")
    verb.epilog = (
        "Exit code 0: not corrupted, or recovered. 1: corrupted, or not recovered; with --circuit-degraded=fail also "
        "degraded. 2: could not be diagnosed. "
        "Verdicts of assertions are printed and do not change it: `pytest` is the gate for them. For a training run, "
        "the exit codes are those of `trajectory`."
    )
    verb.set_defaults(run=_diagnose)


def _diagnose(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.checkpoints import find_checkpoints
    from circuit_assertions.cli.run_trajectory import follow_run

    run = find_checkpoints(given.model)
    if len(run) > 1:
        return follow_run(given, run)
    of_runs = ["--bisect"] * given.bisect + ["-o"] * (given.output is not None)
    if of_runs:
        raise CircuitAssertionsError(
            f"{given.model} is a single checkpoint: {' and '.join(of_runs)} can only be given with a training run (a "
            f"folder with checkpoint-N/ folders)"
        )
    with progress_on_stderr() as progress:
        found = _diagnosed(given, run[0], progress)

    from circuit_assertions.report.diagnosed import diagnosis_lines
    from circuit_assertions.results.from_diagnosis import diagnosis_result

    result = diagnosis_result(found)
    text = result.to_json() if given.json else printed(diagnosis_lines(result))
    return Outcome(text, _code(found, given.circuit_degraded == "fail"))


def _diagnosed(given: argparse.Namespace, model: Checkpoint, progress: Progress) -> Diagnosis:
    called, task = asked_task(given)
    refuse_other_circuit(given.circuit, task, called)
    baseline, corrupted = held_against(given)
    suites = suites_for(given, task, called) if corrupted or given.suite else []

    from circuit_assertions.diagnosis.binding import circuit_of
    from circuit_assertions.diagnosis.lenses import check_fit, diagnose
    from circuit_assertions.diagnosis.suite_verdicts import judge_all, named, runner_for

    audit = open_audit(given, baseline)
    audit.progress = progress
    check_fit(audit, model, baseline, *([corrupted] if corrupted else []))
    circuit = circuit_of(audit, baseline, task, called, given.circuit, given.chain)
    found = diagnose(
        audit,
        model,
        baseline,
        task,
        circuit.roles,
        circuit=circuit.circuit,
        chain=given.chain,
        called=called,
        corrupted=corrupted,
        every_prompt=every_prompt(given),
        tell=progress,
    )
    runner = runner_for(audit, baseline, corrupted, circuit, given.chain)
    return replace(found, assertions=judge_all(runner, model, named(bound_to(circuit, suites))))


def _code(found: Diagnosis, degraded_fails: bool) -> int:
    if degraded_fails and found.verdict == Overall.DEGRADED:
        return 1
    decides = found.verdict if found.recovery is None else found.recovery.how
    return decides.exit.code
