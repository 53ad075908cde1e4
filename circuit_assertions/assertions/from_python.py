"""An assertion that Python makes, checked as one of a suite: the same words, the same problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.circuits import Circuit
from circuit_assertions.assertions.loading import LoadedSuite, check_suite
from circuit_assertions.assertions.schema import Assertion, Expectation
from circuit_assertions.assertions.yaml_source import Source
from circuit_assertions.components import Mlp, Residual
from circuit_assertions.heads import Head
from circuit_assertions.measures import Receiver
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import closest

__all__ = ["build_suite"]

_INPUTS = {"q": "query", "k": "key", "v": "value"}


def build_suite(
    measure: str, task: Task, said: Mapping[str, Any], circuit: str, circuits: tuple[Circuit, ...]
) -> LoadedSuite:
    """A suite of one assertion.

    Args:
        said: everything else that an assertion may say, and what stands under `expect:`, as `at_least=0.45`.
        circuit: the name of the circuit whose roles are meant.
        circuits: what may bind them.

    Raises:
        CircuitAssertionsError: with a line for each problem, as a suite has them.
    """
    expected = {field.alias or name for name, field in Expectation.model_fields.items()}
    _refuse_unknown(measure, said)
    given = {name.replace("_", "-"): _plain(value) for name, value in said.items() if value is not None}
    name = task.kind
    assertion = {"id": measure, "measure": measure, "task": name}
    assertion |= {key: value for key, value in given.items() if key not in expected}
    assertion["expect"] = {key: value for key, value in given.items() if key in expected}  # type: ignore[assignment]
    values = {
        "suite": measure,
        "circuit": circuit,
        "tasks": {name: task},
        "assertions": [assertion],
    }
    source = Source(Path("audit.expect"), values)
    suite, problems = check_suite(source, circuits)
    if suite is None or problems:
        told = dict.fromkeys(_told(problem.path, problem.message) for problem in problems)
        raise CircuitAssertionsError(*(f"audit.expect({measure!r}): {text}" for text in told))
    return LoadedSuite(suite, source)


def _refuse_unknown(measure: str, said: Mapping[str, Any]) -> None:
    known = [key.replace("-", "_") for key in (*Assertion.keys(), *Expectation.model_fields)]
    for name in said:
        if name not in known or name in ("expect", "measure", "task"):
            hint = closest(name, sorted({*known} - {"expect", "measure", "task"}))
            raise CircuitAssertionsError(f"audit.expect({measure!r}): unknown argument {name!r}{hint}")


def _told(path: Sequence[str | int], message: str) -> str:
    """A problem with the argument that has it, as Python spells it."""
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    argument = key.replace("-", "_") if key not in ("assertions", "expect", "tasks") else ""
    return f"{argument}: {message}" if argument and argument not in message.replace("-", "_") else message


def _plain(value: Any) -> Any:
    """A value as YAML would give it."""
    if isinstance(value, Receiver):
        return {_INPUTS[value.which]: [str(head) for head in value.heads], "at": value.at}
    if isinstance(value, (Head, Mlp, Residual)):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.item() if hasattr(value, "item") else value  # a number of numpy's
