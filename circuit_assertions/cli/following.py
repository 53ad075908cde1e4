"""What `circuit-assertions trajectory` does with its options; `diagnose` hands training runs over to it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Circuit, LoadedSuite, load_circuits, load_suite
from circuit_assertions.assertions.asking import find_task
from circuit_assertions.assertions.packaged import packaged_suites
from circuit_assertions.checkpoints import Checkpoint, find_checkpoints
from circuit_assertions.cli.options import one_checkpoint, open_audit
from circuit_assertions.diagnosis.discovery.chains import chain_for
from circuit_assertions.report.progress import Progress
from circuit_assertions.report.runchart import run_picture
from circuit_assertions.report.trajectory import trajectory_data, trajectory_lines
from circuit_assertions.tasks import Task

if TYPE_CHECKING:
    from circuit_assertions.diagnosis.trajectory import Trajectory

__all__ = ["follow_run"]

_DEFAULTS: dict[str, Any] = {"suite": None, "bisect": False, "output": None, "corrupted": None}


def follow_run(given: argparse.Namespace) -> int:
    """Follow the training run that `given.model` names, and print it. Returns the verb's exit code.

    Args:
        given: the options of `trajectory`, or of another verb that has some of them.
    """
    given = argparse.Namespace(**(_DEFAULTS | vars(given)))
    run, baseline = _run_of(given), one_checkpoint(given.baseline)
    corrupted = one_checkpoint(given.corrupted) if given.corrupted else None
    called, task = _task(given)
    suites = [_with_circuits(file) for file in given.suite or [_suite_for(task, called)]]

    from circuit_assertions.diagnosis.binding import circuit_of  # with torch, once all options are known to be valid
    from circuit_assertions.diagnosis.trajectory import check_run, follow

    audit = open_audit(given, baseline)
    progress, doing = Progress(sys.stderr, live=sys.stderr.isatty(), whole=True), [str(baseline)]
    audit.progress = lambda what, done, total: progress(f"{doing[0]}, {what}", done, total)

    def tell(checkpoint: Checkpoint, before: int) -> None:
        doing[0] = f"{checkpoint} ({before + 1} of {'at most ' if given.bisect else ''}{len(run)})"

    progress.begin()
    try:
        check_run(audit, run, baseline, task, corrupted)
        circuit = circuit_of(audit, baseline, task, called, given.circuit)
        bound = [(suite, (circuit,) if suite.circuit == circuit.circuit else others) for suite, others in suites]
        found = follow(
            audit,
            run,
            baseline,
            task,
            circuit,
            bound,
            called=called,
            corrupted=corrupted,
            bisecting=given.bisect,
            tell=tell,
        )
    finally:
        progress.end()
    _show(found, given)
    return _code(found)


def _run_of(given: argparse.Namespace) -> tuple[Checkpoint, ...]:
    run = find_checkpoints(given.model)
    if not run[0].label:
        raise CircuitAssertionsError(
            f"{given.model} is no training run (a folder with checkpoint-N/ folders): `circuit-assertions diagnose` is "
            f"for a single checkpoint"
        )
    if given.output is not None and (given.output.suffix != ".svg" or not given.output.absolute().parent.is_dir()):
        raise CircuitAssertionsError(
            f"{given.output} is no place for a picture: give -o FILE.svg in a folder that is there"
        )
    return run


def _task(given: argparse.Namespace) -> tuple[str, Task]:
    said = given.task or "ioi"
    if given.task is None and given.suite:
        suite, _ = _with_circuits(given.suite[0])
        tasks = suite.suite.tasks.items()
        patched = (name for name, task in tasks if {"answer", "wrong-answer", "counterfactual"} <= task.offers)
        said = f"{suite.file}::{next(patched, next(iter(suite.suite.tasks)))}"
    return find_task(said, {"prompts": given.prompts})


def _suite_for(task: Task, called: str) -> Path:
    name = f"{chain_for(task, called).circuit}.yaml"
    files = [folder / name for folder in (Path("suites"), packaged_suites())]
    for file in files:
        if file.is_file():
            return file
    raise CircuitAssertionsError(f"there is no suites/{name}: say with --suite=FILE which assertions are judged")


def _with_circuits(file: Path) -> tuple[LoadedSuite, tuple[Circuit, ...]]:
    """A suite, and the circuit files that may bind its roles."""
    circuits = load_circuits(file.parent / "circuits") + load_circuits(packaged_suites() / "circuits")
    return load_suite(file, circuits), circuits


def _show(found: Trajectory, given: argparse.Namespace) -> None:
    if given.json:
        print(json.dumps(trajectory_data(found), indent=2))
    else:
        print("\n".join(trajectory_lines(found)))
    if given.output is not None:
        try:
            given.output.write_text(run_picture(found), encoding="utf-8")
        except OSError as error:
            raise CircuitAssertionsError(f"{given.output} cannot be written: {error.strerror}") from error


def _code(found: Trajectory) -> int:
    last = found.steps[-1].verdicts.values()
    if any(step.problem or "ERROR" in step.verdicts.values() for step in found.steps) or set(last) <= {"SKIPPED"}:
        return 2
    return 1 if "BROKEN" in last else 0
