"""The suites that a verb was given, each with the circuit files that may bind its roles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import load_circuit, load_suite
from circuit_assertions.assertions.packaged import circuits_beside
from circuit_assertions.diagnosis.suite_verdicts import Suites

__all__ = ["suites_given"]


def suites_given(files: Iterable[Path], circuit: Path | None = None) -> Suites:
    """The suites of these files, each once.

    Args:
        circuit: the file of `--circuit`.

    Raises:
        CircuitAssertionsError: if there is no such file; a SuiteError, if one of them is not valid.
    """
    found = []
    for file in dict.fromkeys(files):
        if not file.is_file():
            raise CircuitAssertionsError(
                f"{file} is not a suite file: give the paths of suites, `packaged:NAME.yaml` for packaged ones"
            )
        beside = circuits_beside(file)
        circuits = beside if circuit is None else (load_circuit(circuit), *beside)
        suite = load_suite(file, circuits)
        found.append((suite, circuits if circuit is None else _of_option(circuits, suite.circuit)))
    return found


def _of_option(circuits: Sequence[Any], name: str) -> tuple[Any, ...]:
    """The circuit that --circuit gives, for suites that are about it; else the others."""
    chosen, *others = circuits
    return (chosen,) if chosen.circuit == name else tuple(others)
