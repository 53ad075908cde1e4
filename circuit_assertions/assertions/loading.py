"""Load suites and circuit files, and check them whole: every problem of a file is reported at once, with its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from circuit_assertions.assertions.chains import chain_for, chains_beside
from circuit_assertions.assertions.circuit_names import Unbound, check_circuit, default_circuit
from circuit_assertions.assertions.circuits import Circuit, Circuits, unread_of
from circuit_assertions.assertions.errors import SuiteError
from circuit_assertions.assertions.folders import read_folder
from circuit_assertions.assertions.schema import Assertion, Suite, condition_problems
from circuit_assertions.assertions.thresholds import threshold_problems
from circuit_assertions.assertions.validation import problems_of, validate
from circuit_assertions.assertions.yaml_source import Problem, Source, parse_source, read_raw, read_source
from circuit_assertions.measures import MEASURES, Measure
from circuit_assertions.measures.validating import Told
from circuit_assertions.measures.validating import validate as validate_measure
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import closest

__all__ = ["LoadedSuite", "check_suite", "load_circuit", "load_circuits", "load_suite", "problems_of"]

_TASK: TypeAdapter[Task] = TypeAdapter(Task)
_CIRCUITS_KEPT = 256  # with their bytes as part of the key
_CHOOSING = ("heads", "components", "layers", "quantifier", "at_least_heads")  # which heads, and how they are judged


class LoadedSuite:
    """A valid suite, with where each assertion stands in its file.

    Attributes:
        circuit: the name of the circuit whose roles the suite uses.
    """

    def __init__(self, suite: Suite, source: Source) -> None:
        self.suite = suite
        self.file = source.file
        self.circuit = suite.circuit or default_circuit(source.file)
        self._source = source

    def circuit_of(self, assertion: Assertion) -> str:
        """The name of the circuit whose roles an assertion uses: its own, or the suite's."""
        return assertion.circuit or self.circuit

    def tasks_of(self, circuit: str) -> Mapping[str, Task]:
        """The tasks by name of which assertions use a circuit; all of the suite's, where it is the suite's own."""
        asked = {one.task for one in self.suite.assertions if self.circuit_of(one) == circuit}
        return {name: task for name, task in self.suite.tasks.items() if circuit == self.circuit or name in asked}

    @property
    def circuits(self) -> tuple[str, ...]:
        """The names of all circuits whose roles its assertions use, in their order."""
        return tuple(dict.fromkeys(map(self.circuit_of, self.suite.assertions)))

    def line(self, index: int) -> int:
        """The line of the assertion with this index, counted from 1."""
        return self._source.place(("assertions", index))[0]


def load_suite(file: Path, circuits: tuple[Circuit, ...] = (), *, unbound: Unbound = "refused") -> LoadedSuite:
    """Load a suite and check it against itself, the measures, and the available circuits.

    Args:
        unbound: whether its circuit must be one that is known: not where a circuit is discovered on the spot, or where
            no role is bound.

    Raises:
        SuiteError: with one line for each problem.
    """
    source = read_source(file)
    suite, problems = check_suite(source, circuits, unbound)
    if suite is None or problems or source.repeated:
        raise source.error(problems)
    return LoadedSuite(suite, source)


def check_suite(
    source: Source, circuits: tuple[Circuit, ...], unbound: Unbound = "refused"
) -> tuple[Suite | None, list[Problem]]:
    """A suite out of its plain values, checked against itself, the measures and the circuits; and all its problems."""
    suite, problems = validate(Suite, source)
    problems += [Problem((), sentence) for sentence in condition_problems()]
    chains = chains_beside(source.file)
    roles = {*chains.roles, *(role for circuit in circuits for role in circuit.roles)}
    if suite is not None and unread_of(circuits, LoadedSuite(suite, source).circuit):
        roles |= {role for assertion in suite.assertions for role in _roles_in(assertion)}  # it may be bound there
    tasks, assertions, task_names = _valid_parts(source) if suite is None else _parts_of(suite)
    problems += _cross_check(assertions, tasks, task_names, roles)
    problems += _wrong_chains(tasks)
    stated = source.values.get("circuit") if isinstance(source.values, dict) else None
    problems += check_circuit(source.file, stated, tasks, assertions, circuits, chains, roles, unbound)
    if any(problem.message.startswith(("unknown role", "unknown circuit")) for problem in problems):
        problems += [Problem((), f"its roles are unknown: {one}") for one in chains.unread]
    return suite, problems


def load_circuit(file: Path) -> Circuit:
    """Load a circuit file.

    Raises:
        SuiteError: with one line for each problem.
    """
    return _circuit_of(file, read_raw(file))


@lru_cache(maxsize=_CIRCUITS_KEPT)  # each suite of a run looks at the same circuit files
def _circuit_of(file: Path, raw: bytes) -> Circuit:
    source = parse_source(file, raw)
    circuit, problems = validate(Circuit, source)
    if circuit is None or source.repeated:
        raise source.error(problems)
    shape = circuit.fits.shape
    outside = [
        Problem(("roles", role, index), f"{head} is outside the {shape.extent}, that the circuit fits")
        for role, heads in circuit.roles.items()
        for index, head in enumerate(heads)
        if not shape.has(head)
    ]
    outside += [Problem(("found", *path), message) for path, message in threshold_problems(circuit)]
    if outside:
        raise source.error(outside)
    return circuit.found_in(file)


def load_circuits(folder: Path) -> Circuits:
    """Every circuit file in a folder, in the order of their names; none where there is no such folder."""
    return Circuits(*read_folder(folder, load_circuit, "circuit"))


def _parts_of(suite: Suite) -> tuple[dict[str, Task], list[tuple[int, Assertion]], list[str]]:
    return suite.tasks, list(enumerate(suite.assertions)), list(suite.tasks)


def _valid_parts(source: Source) -> tuple[dict[str, Task], list[tuple[int, Assertion]], list[str]]:
    """What can be checked against each other even where other parts of the file are not valid."""
    values = source.values if isinstance(source.values, dict) else {}
    given_tasks, given_assertions = values.get("tasks"), values.get("assertions")
    named = given_tasks if isinstance(given_tasks, dict) else {}
    listed = given_assertions if isinstance(given_assertions, list) else []
    context = {"folder": source.file.parent}
    tasks: dict[str, Task] = {}
    assertions: list[tuple[int, Assertion]] = []
    for name, value in named.items():
        try:
            tasks[name] = _TASK.validate_python(value, context=context)
        except ValidationError:
            continue
    for index, value in enumerate(listed):
        try:
            assertions.append((index, Assertion.model_validate(value)))
        except ValidationError:
            continue
    return tasks, assertions, list(named)


def _wrong_chains(tasks: Mapping[str, Task]) -> Iterator[Problem]:
    """The chains that tasks name and cannot be followed by."""
    for name, task in tasks.items():
        if getattr(task, "chain", None) is not None:
            try:
                chain_for(task, name)
            except SuiteError as error:
                yield Problem(("tasks", name, "chain"), "; ".join(map(str, error.args)))


def _cross_check(
    assertions: Iterable[tuple[int, Assertion]], tasks: Mapping[str, Task], task_names: list[str], roles: set[str]
) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, assertion in assertions:
        here = ("assertions", index)
        if assertion.id in seen:
            yield Problem((*here, "id"), f"id {assertion.id!r} is used twice: each assertion needs its own")
        seen.add(assertion.id)
        if assertion.task not in task_names:
            hint = closest(assertion.task, task_names)
            yield Problem((*here, "task"), f"unknown task {assertion.task!r}{hint}")
        asked = validate_measure(
            MEASURES[assertion.measure],
            tasks.get(assertion.task),
            assertion.operands,
            called=repr(assertion.task),
            kinds=assertion.kinds,
            chosen=[key.replace("_", "-") for key in _CHOOSING if getattr(assertion, key) is not None],
            expected=partial(_wrong_expectation, assertion),
        )
        for keys, message in asked:
            yield Problem((*here, *keys), message)
        yield from _check_heads(assertion, roles, here)


def _wrong_expectation(assertion: Assertion, measure: Measure, task: Task | None) -> Iterator[Told]:
    return assertion.expect.problems(measure, task, assertion.needed)


def _roles_in(assertion: Assertion) -> Iterator[str]:
    yield from [] if assertion.role is None else [assertion.role]
    yield from (role for _, role in assertion.roles_named)


def _check_heads(assertion: Assertion, roles: set[str], here: tuple[str | int, ...]) -> Iterator[Problem]:
    spec = MEASURES[assertion.measure]
    if spec.compares and spec.joint and assertion.role is None and assertion.heads != "circuit":
        yield Problem((*here, "heads"), f"{spec.name} is read of a role, or of `circuit`: the baseline's heads")
    if not spec.by_head and not spec.joint:
        return
    if assertion.components is not None and assertion.heads is not None:
        yield Problem((*here, "components"), "give either `heads` or `components`")
    elif assertion.components is None and assertion.heads is None:
        yield Problem(here, f"{spec.name} needs `heads:`, a role, `any`, or a list such as [L9H9]")
    if assertion.role is not None and assertion.role not in roles:
        yield Problem((*here, "heads"), f"unknown role {assertion.role!r}{closest(assertion.role, sorted(roles))}")
    for key, role in assertion.roles_named:
        if role not in roles:
            yield Problem((*here, key), f"unknown role {role!r}{closest(role, sorted(roles))}")
    listed = next((given for given in (assertion.heads, assertion.components) if isinstance(given, tuple)), None)
    called = "components" if assertion.components else "heads"
    if listed is not None and assertion.layers is not None:
        first, last = assertion.layers
        listed = tuple(component for component in listed if first <= component.layer <= last)
        if not listed:
            yield Problem((*here, "layers"), f"none of the listed {called} lies in layers {first} to {last}")
    if listed and (assertion.at_least_heads or 0) > len(listed):
        yield Problem((*here, "at-least-heads"), f"only {len(listed)} {called} are listed: this can never hold")
    if assertion.at_least_heads is not None and assertion.quantifier is not None:
        yield Problem((*here, "at-least-heads"), "give either `quantifier` or `at-least-heads`")
