"""What `circuit-assertions trajectory` does with its options; `diagnose` hands training runs over to it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.chains import chain_for
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.cli.baseline_options import (
    asked_task,
    bound_to,
    every_prompt,
    held_against,
    refuse_other_circuit,
    suites_for,
)
from circuit_assertions.cli.options import in_one_go, open_audit
from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.cli.writable import check_writable
from circuit_assertions.files import write_whole
from circuit_assertions.report.runchart import run_picture
from circuit_assertions.report.trajectory import trajectory_lines
from circuit_assertions.results import TrajectoryResult
from circuit_assertions.verdict_words import SOMETHING_LOST
from circuit_assertions.verdict_words import Outcome as AssertionOutcome

if TYPE_CHECKING:
    from circuit_assertions.diagnosis.trajectory import Step, Trajectory

__all__ = ["follow_run"]

_NOT_JUDGED = AssertionOutcome.ERROR.exit.followed


def follow_run(given: argparse.Namespace, run: tuple[Checkpoint, ...]) -> Outcome:
    """Follow the training run that `given.model` names, and draw it where that is asked for.

    Args:
        given: what `add_comparing` has options for.
        run: its checkpoints.
    """
    if given.output is not None:
        _check_place(given.output)
    baseline, corrupted = held_against(given)
    called, task = asked_task(given)
    refuse_other_circuit(given.circuit, task, called)
    suites = suites_for(given, task, called)
    if not suites:
        name = f"{chain_for(task, called, given.chain).name}.yaml"
        raise CircuitAssertionsError(f"there is no suites/{name}: give the suite to judge with --suite=FILE")

    from circuit_assertions.diagnosis.binding import circuit_of  # with torch, once all options are known to be valid
    from circuit_assertions.diagnosis.trajectory import check_run, follow

    audit = open_audit(given, baseline)
    doing = [str(baseline)]

    with in_one_go(audit, lambda what: f"{doing[0]}, {what}") as progress:
        check_run(audit, run, baseline, task, corrupted, every_prompt(given))
        circuit = circuit_of(audit, baseline, task, called, given.circuit, given.chain)

        def tell(checkpoint: Checkpoint, before: int) -> None:
            doing[0] = f"{checkpoint} ({before + 1} of {'at most ' if given.bisect else ''}{len(run)})"
            if not given.bisect:  # which does not know how many it will read
                progress.of_run(before, len(run))

        found = follow(
            audit,
            run,
            baseline,
            task,
            circuit,
            bound_to(circuit, suites),
            called=called,
            corrupted=corrupted,
            bisecting=given.bisect,
            every_prompt=every_prompt(given),
            chain=given.chain,
            tell=tell,
        )
    result = TrajectoryResult.of(found)
    if given.output is not None:
        write_whole(given.output, run_picture(result))
    text = result.to_json() if given.json else printed(trajectory_lines(result))
    return Outcome(text, _code(found, given.circuit_degraded == "fail"))


def _check_place(picture: Path) -> None:
    check_writable(picture, "run.svg")
    if picture.suffix != ".svg" or not picture.absolute().parent.is_dir():
        raise CircuitAssertionsError(f"{picture} cannot be a picture: give -o FILE.svg in an existing folder")


def _code(found: Trajectory, degraded_fails: bool) -> int:
    last = found.steps[-1]
    unread = any(step.problem or _NOT_JUDGED in _codes(step) for step in found.steps)
    if unread or set(last.verdicts.values()) <= {AssertionOutcome.SKIPPED}:
        return _NOT_JUDGED
    return max([*_codes(last), int(degraded_fails and last.overall in SOMETHING_LOST)])


def _codes(step: Step) -> list[int]:
    return [AssertionOutcome.of(verdict).exit.followed for verdict in step.verdicts.values()]
