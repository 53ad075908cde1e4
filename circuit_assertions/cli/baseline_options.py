"""What the verbs that compare checkpoints with a baseline have in common: `diagnose`, `trajectory`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli.cache import add_no_cache
from circuit_assertions.cli.options import VerbParser, add_opening, add_policy, one_checkpoint
from circuit_assertions.cli.task_options import add_keys_of_kinds, keys_of_kinds
from circuit_assertions.places import shown_path, suite_path
from circuit_assertions.verdict_words import Overall

if TYPE_CHECKING:
    from circuit_assertions.assertions import Circuit, LoadedSuite
    from circuit_assertions.checkpoints import Checkpoint
    from circuit_assertions.diagnosis.suite_verdicts import Suites
    from circuit_assertions.tasks import Task

__all__ = [
    "add_comparing",
    "asked_task",
    "bound_to",
    "every_prompt",
    "held_against",
    "refuse_other_circuit",
    "suites_for",
]


def add_comparing(verb: VerbParser, model: str, *, metavar: str | None = None, of_runs: str = "") -> None:
    """Add the options that say what is compared, and how it is opened.

    Args:
        model: what may be compared with the baseline, as the help shows it.
        metavar: how the help calls it.
        of_runs: what the help says before options that only a training run has.
    """
    verb.add_argument("--model", required=True, metavar=metavar, help=model)
    verb.add_argument("--baseline", required=True, help="the healthy checkpoint that it is compared with")
    verb.add_argument("--corrupted", help="a known-bad checkpoint; recovery is measured from it")
    _add_measured(verb)
    verb.add_late = add_keys_of_kinds
    add_policy(verb)
    verb.add_argument(
        "--circuit-degraded",
        choices=("report", "fail"),
        default="report",
        help=f"what {Overall.DEGRADED} does to the exit code: `report` (default) nothing, `fail` makes it 1",
    )
    verb.add_argument(
        "--bisect", action="store_true", help=f"{of_runs}audit only the checkpoints that finding the turns needs"
    )
    add_opening(verb)
    add_no_cache(verb)
    verb.add_argument(
        "-o", "--output", type=Path, metavar="FILE.svg", help=f"{of_runs}draw behaviour and roles over steps"
    )
    verb.add_argument("--json", action="store_true", help="print what was found as JSON, and only that")


def _add_measured(verb: argparse.ArgumentParser) -> None:
    """Add the options that say what is judged and measured, and by how many prompts."""
    verb.add_argument(
        "--suite",
        action="append",
        type=suite_path,
        metavar="FILE",
        help="a suite whose assertions are judged; repeatable; default the suite with the circuit's name, in suites/ "
        "or packaged. Without it assertions are judged only for a training run or with --corrupted",
    )
    verb.add_argument(
        "--task",
        help="what behaviour and roles are measured on: a kind of task (`circuit-assertions tasks` lists them), a task "
        "file, or suite.yaml::task; "
        "default the first task of --suite that can be patched, else indirect object identification",
    )
    verb.add_argument(
        "--circuit",
        type=Path,
        metavar="FILE",
        help="the baseline's circuit; default the file of suites/circuits that was found on the baseline, else it is "
        "discovered",
    )
    verb.add_argument(
        "--chain", metavar="NAME|FILE", help="the chain that --circuit was found by; default that of the task"
    )
    verb.add_argument(
        "--prompts",
        type=int,
        metavar="N",
        help="how many prompts of --task every part uses; default: the task's own number, of which the diagnosis uses "
        "128 at most (compared-prompts of the policy). Assertions use the prompts of their suites",
    )


def held_against(given: argparse.Namespace) -> tuple[Checkpoint, Checkpoint | None]:
    """The baseline, and the known-bad checkpoint where there is one.

    Raises:
        CheckpointError: if nothing is there.
        CircuitAssertionsError: if it is a training run.
    """
    return one_checkpoint(given.baseline), one_checkpoint(given.corrupted) if given.corrupted else None


def asked_task(given: argparse.Namespace) -> tuple[str, Task]:
    """The task that behaviour and roles are measured on, and its name.

    Raises:
        SuiteError: if there is no such task, or its file is not valid.
    """
    from circuit_assertions.assertions.task_lookup import find_task
    from circuit_assertions.tasks import TO_PATCH

    said = given.task
    if given.task is None and given.suite:
        suite, _ = _with_circuits(given.suite[0], given.circuit)
        tasks = suite.suite.tasks
        patched = (name for name, task in tasks.items() if task.offers >= TO_PATCH)
        said = f"{shown_path(suite.file)}::{next(patched, next(iter(tasks)))}"
    return find_task(said, {"prompts": given.prompts} | keys_of_kinds(given))


def every_prompt(given: argparse.Namespace) -> bool:
    """Whether a diagnosis reads all prompts of the task: where a person said how many there are to be."""
    return given.prompts is not None


def refuse_other_circuit(file: Path | None, task: Task, called: str) -> None:
    """Check that a circuit file is not about another task's circuit. For a task of kind prompts it may be any.

    Raises:
        SuiteError: if the file is not valid.
        CircuitAssertionsError: naming both.
    """
    if file is None:
        return
    from circuit_assertions.assertions import load_circuit
    from circuit_assertions.assertions.chains import chain_for
    from circuit_assertions.tasks import kinds

    ours = chain_for(task, called).name
    known = {kind.circuit: name for name, kind in kinds().items() if kind.circuit}
    circuit = load_circuit(file)
    found_on = circuit.found.task if circuit.found is not None else {}
    theirs = found_on.get("kind") if found_on else known.get(circuit.circuit)
    if theirs != task.kind and {theirs, task.kind} <= set(known.values()):
        raise CircuitAssertionsError(
            f"{file} holds the circuit {circuit.circuit!r}, of tasks of kind {theirs}, and {called} is of kind "
            f"{task.kind}, with the circuit {ours!r}: give --task={theirs}, or leave --circuit out"
        )


def suites_for(given: argparse.Namespace, task: Task, called: str) -> Suites:
    """The suites that are judged, each with the circuit files that may bind its roles; none where there is none.

    Raises:
        SuiteError: if one of them is not valid.
    """
    return [_with_circuits(file, given.circuit) for file in given.suite or _named_like_the_circuit(given, task, called)]


def bound_to(circuit: Circuit, suites: Suites) -> Suites:
    """The same suites, those about this circuit bound to it alone."""
    return [(suite, (circuit,) if suite.circuit == circuit.circuit else others) for suite, others in suites]


def _named_like_the_circuit(given: argparse.Namespace, task: Task, called: str) -> list[Path]:
    from circuit_assertions.assertions.chains import chain_for
    from circuit_assertions.assertions.packaged import packaged_suites

    name = f"{chain_for(task, called, given.chain).name}.yaml"
    files = (folder / name for folder in (Path("suites"), packaged_suites()))
    return [file for file in files if file.is_file()][:1]


def _with_circuits(file: Path, given: Path | None) -> tuple[LoadedSuite, tuple[Circuit, ...]]:
    """A suite, and the circuit files that may bind its roles.

    Args:
        given: the circuit file that the suite will be bound to; without one, a circuit may be discovered for it.

    Raises:
        SuiteError: if one of them is not valid.
    """
    from circuit_assertions.assertions import load_circuit, load_suite
    from circuit_assertions.assertions.packaged import circuits_beside

    circuits = circuits_beside(file)
    if given is None:
        return load_suite(file, circuits, unbound="discovered"), circuits
    return load_suite(file, (*circuits, load_circuit(given))), circuits
