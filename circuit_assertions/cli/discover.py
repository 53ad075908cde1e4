"""`circuit-assertions discover`: find which heads have which role in a checkpoint, and write a circuit file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli.options import add_model_and_task, lender_of, one_checkpoint, opening_of, policy_of
from circuit_assertions.cli.output import Outcome
from circuit_assertions.cli.searching import (
    add_search,
    circuit_name,
    circuit_place,
    discovery_text,
    not_found,
    search,
    task_searched,
    write_circuit,
)
from circuit_assertions.cli.writable import check_writable
from circuit_assertions.files import NotWrittenError

if TYPE_CHECKING:
    from circuit_assertions.diagnosis.discovery import Discovery
    from circuit_assertions.results import DiscoveryResult

__all__ = ["add_discover"]


def add_discover(verbs: Any) -> None:
    """Add the verb to the parser's."""
    discover = verbs.add_parser("discover", help="find which heads have which role, and write a circuit file")
    add_model_and_task(discover)
    discover.add_argument("-o", "--output", type=Path, metavar="FILE", help="default suites/circuits/<name>.yaml")
    add_search(discover)
    discover.add_argument("--json", action="store_true", help="print the result as JSON, and only that")
    discover.set_defaults(run=_discover)


def _discover(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.diagnosis.errors import NoCircuitError

    name, task = task_searched(given)
    checkpoint, opening = one_checkpoint(given.model), opening_of(given, lender_of(given))
    policy = policy_of(given)
    output = given.output or circuit_place(given, checkpoint, circuit_name(given, task, name))
    _check_place(output)
    notes = _notes_in(output)

    from circuit_assertions.audit import Audit

    audit = Audit(opening, policy=policy)
    try:
        found = search(given, audit, checkpoint, name, task)
    except NoCircuitError as error:
        return Outcome(discovery_text(not_found(audit, checkpoint, error), given.json), 1)
    from circuit_assertions.results import DiscoveryResult

    result = DiscoveryResult.of(found, str(output))
    _write(found, result, output, notes)
    return Outcome(discovery_text(result, given.json))


def _check_place(output: Path) -> None:
    """Check the circuit file's name, and that the file and its head map can be written."""
    check_writable(output, "model.circuit.yaml")
    if output.suffix not in (".yaml", ".yml"):
        raise CircuitAssertionsError(f"{output} is not a name for a circuit file: it must end in .yaml")
    check_writable(output.with_suffix(".svg"))


def _notes_in(output: Path) -> str | None:
    """What people wrote into the circuit file that will be written anew. Nothing else is overwritten."""
    from circuit_assertions.assertions import SuiteError, load_circuit

    if not output.exists():
        return None
    try:
        return load_circuit(output).notes
    except SuiteError as error:
        raise CircuitAssertionsError(
            f"{output} exists and is not a valid circuit file, so it is not overwritten: give another -o FILE",
            *error.args,
        ) from error


def _write(found: Discovery, result: DiscoveryResult, output: Path, notes: str | None) -> None:
    try:
        write_circuit(found, result, output, notes)
    except NotWrittenError as error:
        raise NotWrittenError(f"{error}; give -o FILE") from error
    except OSError as error:
        raise CircuitAssertionsError(f"{output} cannot be written: {error.strerror}; give -o FILE") from error
