"""Load suites and circuit files, and check them whole: every problem of a file is reported at once, with its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from circuit_assertions.assertions.circuits import Circuit
from circuit_assertions.assertions.schema import ROLES, Assertion, Suite
from circuit_assertions.assertions.source import Problem, Source, read_source
from circuit_assertions.measures.catalogue import MEASURES
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import closest

__all__ = ["LoadedSuite", "load_circuit", "load_circuits", "load_suite"]

Loaded = TypeVar("Loaded", bound=BaseModel)


class LoadedSuite:
    """A valid suite, with where each assertion stands in its file.

    Attributes:
        circuit: the name of the circuit whose roles the suite speaks of.
    """

    def __init__(self, suite: Suite, source: Source) -> None:
        self.suite = suite
        self.file = source.file
        self.circuit = suite.circuit or source.file.name.split(".")[0]
        self._source = source

    def line(self, index: int) -> int:
        """The line of the assertion with this index, counted from 1."""
        return self._source.place(("assertions", index))[0]


def load_suite(file: Path, circuits: tuple[Circuit, ...] = ()) -> LoadedSuite:
    """Load a suite and check it against itself, the measures, and the circuits that are there.

    Raises:
        SuiteError: with one line for each problem.
    """
    source = read_source(file)
    suite = _validate(Suite, source)
    loaded = LoadedSuite(suite, source)
    roles = {*ROLES, *(role for circuit in circuits for role in circuit.roles)}
    problems = list(_cross_check(suite, roles))
    if problems:
        raise source.error(problems)
    return loaded


def load_circuit(file: Path) -> Circuit:
    """Load a circuit file.

    Raises:
        SuiteError: with one line for each problem.
    """
    source = read_source(file)
    circuit = _validate(Circuit, source)
    size = f"the {circuit.fits.layers} layers of {circuit.fits.heads} heads that the circuit fits"
    outside = [
        Problem(("roles", role, index), f"{head} is outside {size}")
        for role, heads in circuit.roles.items()
        for index, head in enumerate(heads)
        if head.layer >= circuit.fits.layers or head.head >= circuit.fits.heads
    ]
    if outside:
        raise source.error(outside)
    return circuit.found_in(file)


def load_circuits(folder: Path) -> tuple[Circuit, ...]:
    """Every circuit file in a folder, in the order of their names; none where there is no such folder."""
    files = [*folder.glob("*.yaml"), *folder.glob("*.yml")]
    return tuple(load_circuit(file) for file in sorted(files))


def _validate(model: type[Loaded], source: Source) -> Loaded:
    try:
        return model.model_validate(source.values, context={"folder": source.file.parent})
    except ValidationError as error:
        raise source.error(_problems(error)) from None


def _problems(error: ValidationError) -> Iterator[Problem]:
    for found in error.errors(include_url=False):
        path = tuple(found["loc"])
        context: dict[str, Any] = found.get("ctx", {})
        kind, message = found["type"], found["msg"].removeprefix("Value error, ")
        if kind == "missing":
            message = f"{path[-1]!r} is missing"
        elif kind == "unknown_key":
            path = (*_without_tag(path), context["at"])
        elif kind == "union_tag_invalid":
            known = [tag.strip().strip("'") for tag in context["expected_tags"].split(",")]
            message, path = f"unknown kind {context['tag']!r}{closest(context['tag'], known)}", (*path, "kind")
        elif kind == "union_tag_not_found":
            message = "'kind' is missing: ioi, repeated-tokens or prompts"
        yield Problem(_without_tag(path), message)


def _without_tag(path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Pydantic puts the chosen kind of a task into the path, where the file has no such level."""
    if len(path) > 2 and path[0] == "tasks" and path[2] in ("ioi", "repeated-tokens", "prompts"):
        return (*path[:2], *path[3:])
    return path


def _cross_check(suite: Suite, roles: set[str]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, assertion in enumerate(suite.assertions):
        here = ("assertions", index)
        if assertion.id in seen:
            yield Problem((*here, "id"), f"id {assertion.id!r} is used twice: each assertion needs its own")
        seen.add(assertion.id)
        task = suite.tasks.get(assertion.task)
        if task is None:
            hint = closest(assertion.task, list(suite.tasks))
            yield Problem((*here, "task"), f"unknown task {assertion.task!r}{hint}")
        else:
            yield from _check_task(assertion, task, here)
        yield from _check_heads(assertion, roles, here)


def _check_task(assertion: Assertion, task: Task, here: tuple[str | int, ...]) -> Iterator[Problem]:
    spec = MEASURES[assertion.measure]
    offers = set(task.offers) | ({"target"} if {"answer", "repeat"} & set(task.offers) else set())
    lacking = sorted(spec.needs - offers)
    if lacking:
        message = (
            f"{spec.name} needs a task with {' and '.join(lacking)}, and {assertion.task!r} ({task.kind}) has none"
        )
        yield Problem((*here, "measure"), message)
    for operand in ("query", "key"):
        position = getattr(assertion, operand)
        if operand in spec.operands and position is None:
            yield Problem(here, f"{spec.name} needs `{operand}:`, a position of the task")
        elif operand not in spec.operands and position is not None:
            yield Problem((*here, operand), f"{spec.name} takes no `{operand}`")
        elif position is not None and position not in task.labels():
            hint = closest(position, sorted(task.labels()))
            yield Problem((*here, operand), f"{assertion.task!r} has no position {position!r}{hint}")


def _check_heads(assertion: Assertion, roles: set[str], here: tuple[str | int, ...]) -> Iterator[Problem]:
    spec = MEASURES[assertion.measure]
    given = [key for key in ("heads", "layers", "quantifier", "at_least_heads") if getattr(assertion, key) is not None]
    if not spec.by_head:
        for key in given:
            yield Problem(
                (*here, key.replace("_", "-")), f"{spec.name} is a measure of the whole model: leave this out"
            )
        if assertion.expect.rank_within is not None:
            yield Problem((*here, "expect", "rank-within"), f"{spec.name} has no heads to rank")
        return
    if assertion.heads is None:
        yield Problem(here, f"{spec.name} needs `heads:`, a role, `any`, or a list such as [L9H9]")
    if assertion.role is not None and assertion.role not in roles:
        yield Problem((*here, "heads"), f"unknown role {assertion.role!r}{closest(assertion.role, sorted(roles))}")
    if assertion.at_least_heads is not None and assertion.quantifier is not None:
        yield Problem((*here, "at-least-heads"), "give either `quantifier` or `at-least-heads`")
    if assertion.expect.rank_within is not None and assertion.needed == "mean":
        yield Problem((*here, "expect", "rank-within"), "a mean over heads has no rank: use `each` or `any`")
