"""Which checkpoints, and which of their suites, a diagnosis and a report look at after the verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from circuit_assertions.assertions import Circuit, LoadedSuite, load_suite
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.places import suite_path
from circuit_assertions.plugin.audited import SessionAudit
from circuit_assertions.results import AssertionResult
from circuit_assertions.tasks import TO_PATCH, Task
from circuit_assertions.verdict_words import Outcome

__all__ = ["judged_suites", "last_of_runs"]


def last_of_runs(audited: SessionAudit) -> Iterator[tuple[Checkpoint, int]]:
    """The last checkpoint of each training run, with how many the run has; a checkpoint alone is a run of one.

    The baseline is left out where other models are audited beside it.
    """
    runs: dict[str, list[Checkpoint]] = {}
    for checkpoint in audited.checkpoints:
        runs.setdefault(checkpoint.given, []).append(checkpoint)
    for run in runs.values():
        if run[-1] != audited.baseline or len(runs) == 1:
            yield run[-1], len(run)


def judged_suites(
    audited: SessionAudit, lines: Sequence[AssertionResult], checkpoint: Checkpoint
) -> Iterator[tuple[LoadedSuite, str, Task, tuple[Circuit, ...]]]:
    """What it was judged by, each circuit once: the suite, the circuit, a task that can be patched, and files."""
    start, seen = audited.config.invocation_params.dir, set()
    judged = [
        line.suite
        for line in lines
        if line.model == str(checkpoint)
        and line.outcome not in (Outcome.ERROR, Outcome.NOT_RUN)
        and line.suite.endswith((".yaml", ".yml"))
    ]
    for name in dict.fromkeys(judged):
        circuits = audited.circuits_of(suite_path(name, start))
        suite = load_suite(suite_path(name, start), circuits, unbound=audited.unbound)
        for circuit in suite.circuits:
            tasks = [task for task in suite.tasks_of(circuit).values() if task.offers >= TO_PATCH]
            if tasks and circuit not in seen:
                seen.add(circuit)
                yield suite, circuit, tasks[0], circuits
