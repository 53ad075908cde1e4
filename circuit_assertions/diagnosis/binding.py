"""The circuit that a diagnosis is about: the baseline's, out of a file or discovered."""

from __future__ import annotations

from pathlib import Path

from circuit_assertions.assertions.chains import chain_for
from circuit_assertions.assertions.circuits import Circuit, bind, unread_of
from circuit_assertions.assertions.loading import load_circuit
from circuit_assertions.assertions.packaged import circuits_beside
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.discovery.finder import Finder
from circuit_assertions.diagnosis.errors import DiagnosisError
from circuit_assertions.tasks import Task

__all__ = ["circuit_of"]


def circuit_of(
    audit: Audit, baseline: Checkpoint, task: Task, called: str, file: Path | None = None, chain: str | None = None
) -> Circuit:
    """The baseline's circuit for a task.

    Args:
        called: the task's name, which is the circuit's where its kind has none.
        file: a circuit file; None for the one in suites/circuits, here or packaged, that was found on the baseline, and
            else for discovering it.
        chain: the chain by which it is discovered, by its name or its file; default the task's.

    Raises:
        SuiteError: if the file is not valid.
        DiagnosisError: if the file is about models of another shape, nothing is found, or a file that may hold it
            cannot be read.
    """
    name = chain_for(task, called, chain).name
    opened = audit.opened(baseline)
    if file is not None:
        circuit = load_circuit(file)
        if circuit.fits.shape != opened.shape:
            raise DiagnosisError(
                f"{file} is about a {circuit.fits.shape}, and {baseline} is a {opened.shape}: give the "
                f"baseline's own circuit, or leave --circuit out"
            )
        return circuit
    circuits = circuits_beside(Path("suites"))
    bound = bind(circuits, name, opened.shape, [opened.fingerprint])
    if (bound is None or not bound.certain) and (unread := unread_of(circuits, name)):
        raise DiagnosisError(f"{unread[0]}; correct or remove it, or give the circuit with --circuit=FILE")
    return bound.circuit if bound is not None and bound.certain else Finder(audit, baseline, chain=chain)(name, task)
