"""Whether the circuit that a suite names can be there at all: a misspelt name would leave every role unbound."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from circuit_assertions.assertions.chains import Chains
from circuit_assertions.assertions.circuits import Circuit, unread_of
from circuit_assertions.assertions.schema import Assertion
from circuit_assertions.assertions.yaml_source import Problem
from circuit_assertions.places import shown_path
from circuit_assertions.tasks import TO_PATCH, Task, known_circuits
from circuit_assertions.tasks.schema import did_you_mean

__all__ = ["Unbound", "check_circuit", "default_circuit", "discover_command"]

Unbound = Literal["refused", "discovered", "allowed"]


def default_circuit(file: Path) -> str:
    """The circuit that a suite means where it names none: its file's name up to the first dot."""
    return file.name.split(".")[0]


def check_circuit(
    file: Path,
    stated: Any,
    tasks: Mapping[str, Task],
    assertions: Iterable[tuple[int, Assertion]],
    circuits: Iterable[Circuit],
    chains: Chains,
    roles: Collection[str],
    unbound: Unbound,
) -> Iterator[Problem]:
    """What is wrong with the name of a suite's circuit.

    Args:
        stated: the value of `circuit:` in the suite; None if it has none.
        circuits: those of the circuit files that were found for the suite.
        chains: those that were found for it, each of which has a circuit of its name.
        roles: all that are known.
        unbound: `refused` where the name must be known; `discovered` where a circuit of any name is found on the spot,
            provided that a task can be patched; `allowed` where no role is bound.
    """
    patched = next((name for name, task in tasks.items() if task.offers >= TO_PATCH), None)
    if unbound == "allowed" or (unbound == "discovered" and patched is not None):
        return
    known = sorted({*chains.names, *known_circuits(), *(circuit.circuit for circuit in circuits)})

    def wrong(name: str) -> str:
        """How an unknown name goes on in a message; empty if it is known, or a file that could not be read has it."""
        if name in known or unread_of(circuits, name):
            return ""
        return did_you_mean(name, known) or f" (known: {', '.join(known)})"

    listed = list(assertions)
    for index, assertion in listed:
        if assertion.circuit is not None and (hint := wrong(assertion.circuit)):
            way_out = _way_out(file, patched, assertion.circuit)
            message = f"unknown circuit {assertion.circuit!r}{hint}; {way_out}"
            yield Problem(("assertions", index, "circuit"), message)
    if stated is not None and not isinstance(stated, str):
        return  # a problem of its own
    name = stated or default_circuit(file)
    hint = wrong(name)
    if stated and hint:
        yield Problem(("circuit",), f"unknown circuit {name!r}{hint}; {_way_out(file, patched, name)}")
    if stated or not hint:
        return
    for index, assertion in listed:
        for key, role in _roles_in(assertion) if assertion.circuit is None else ():
            if role not in roles and role != "circuit":
                continue  # misspelt, which is a problem of its own
            yield Problem(
                ("assertions", index, key),
                f"role {role!r} needs a circuit, and the one named after this file, {name!r}, is unknown{hint}: name "
                f"the right one with `circuit:`; {_way_out(file, patched, name)}",
            )
            return


def discover_command(file: Path, task: str, circuit: str, model: str = "path/", kind: str = "") -> str:
    """The command that finds a circuit by a suite's task, and writes its file.

    Args:
        kind: the task's kind, which is named where there is no suite file, as for an expectation in Python.
    """
    named = f"{shown_path(file)}::{task}" if file.is_file() or not kind else kind
    said = ["--model", model, "--task", named, "--circuit", circuit]
    return shlex.join(["circuit-assertions", "discover", *said])


def _way_out(file: Path, task: str | None, circuit: str) -> str:
    if task is None:
        return f"a circuit of your own needs a circuit file, {file.parent.name or '.'}/circuits/NAME.{circuit}.yaml"
    return f"to find a circuit of this name on a healthy model: `{discover_command(file, task, circuit)}`"


def _roles_in(assertion: Assertion) -> Iterator[tuple[str, str]]:
    """The roles that an assertion needs bound, `circuit` among them, by the key they stand under."""
    for key, heads in (("heads", assertion.heads), *assertion.roles_named):
        if isinstance(heads, str) and heads not in ("any", "all"):
            yield key, heads
