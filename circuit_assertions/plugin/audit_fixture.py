"""The suite's vocabulary in Python: what the `audit` fixture gives to a test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
from pydantic import TypeAdapter, ValidationError

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Binding, Circuit, Judgement
from circuit_assertions.assertions.chains import chain_for, chains_beside
from circuit_assertions.assertions.circuits import unread_of
from circuit_assertions.assertions.from_python import build_suite
from circuit_assertions.assertions.runner import NotApplicable, PlannedAssertion, SuiteRunner
from circuit_assertions.assertions.spelling import COMPONENT_WORDS
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.components import Component, all_of, kind_of, parse_component
from circuit_assertions.heads import Head, parse_head
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.measures.figures import Figure as MeasuredFigure
from circuit_assertions.measures.intervals import ALONE, HOLDS
from circuit_assertions.measures.reading import is_number
from circuit_assertions.measures.validating import validate
from circuit_assertions.printable import printable, printable_lines
from circuit_assertions.report.explaining import FIGURES, LABELS, context_rows, figure_cells, intervals_text
from circuit_assertions.report.tables import Column, table
from circuit_assertions.request import Request
from circuit_assertions.results import Figure
from circuit_assertions.results import Reading as ReadingResult
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import closest

__all__ = ["AuditedCheckpoint", "comparison_lines"]

Conclude = Callable[[PlannedAssertion, Judgement | NotApplicable], None]

_One = TypeVar("_One", bound=Component)

_TASK: TypeAdapter[Task] = TypeAdapter(Task)


@dataclass(frozen=True)
class AuditedCheckpoint:
    """One checkpoint under audit.

    Readings compare with numbers: `audit.measure(...) >= 0.9` holds when every head's interval lies above 0.9, and a
    failed `assert` shows the table of heads.
    """

    _runner: SuiteRunner
    checkpoint: Checkpoint
    _circuits: tuple[Circuit, ...] = ()
    _conclude: Conclude = lambda asked, judged: None

    def circuit(self, name: str) -> Binding:
        """The circuit called `name` that fits this model; its `heads(role)` are tuples of heads.

        Skips the test where no circuit file fits, as a suite does.

        Raises:
            CircuitAssertionsError: if no circuit file has a circuit of this name, for any model, and
                from `heads(role)` if none has that role.
        """
        __tracebackhide__ = True
        known = sorted({circuit.circuit for circuit in self._circuits})
        binding = None
        if name in known:
            binding = self._runner.binding(self.checkpoint, name, self._circuits)
        if binding is None and (unread := unread_of(self._circuits, name)):
            raise CircuitAssertionsError(
                f"no circuit file that can be read holds {name!r}: {unread[0]}; correct or remove it"
            )
        if name not in known:
            raise CircuitAssertionsError(f"unknown circuit {name!r}{closest(name, known)}")
        if binding is None:
            pytest.skip(printable(f"no circuit file binds the roles of {name!r} for {self.checkpoint}"))
        roles = {role for circuit in self._circuits for role in circuit.roles}
        return replace(binding, speaks_of=frozenset({*chains_beside().roles, *roles}))

    def measure(
        self,
        measure: str,
        *,
        task: str | dict[str, Any] | Task,
        heads: Sequence[Head | str] | str | None = None,
        components: Sequence[Component | str] | str | None = None,
        **operands: Any,
    ) -> Reading:
        """Take a reading.

        Args:
            measure: a measure of `circuit-assertions measures`.
            task: a kind of task (`"ioi"`) with its defaults, a mapping as a suite would hold it, or a task.
            heads: heads as `L9H9` or `Head`; every head where it is left out. For `role-stability` a role, as
                `"name-mover"`, or `"circuit"`, of the task's own circuit or the one that `circuit="..."` names.
            components: instead of heads, `"mlps"`, `"residual"`, or components as `L9H9`, `MLP4`, `RESID2`.
            operands: what the measure takes: positions, `query="end"`; `receiver="logits"` or a `Receiver`; words,
                `ranked_by="total-effect"`, as a suite's `ranked-by:`; heads to be knocked out meanwhile,
                `without=["L4H1"]`.

        Raises:
            CircuitAssertionsError: if the measure, the task or the checkpoint does not allow it.

        A measure that compares the checkpoint with others skips the test where they are not given, as a suite does.
        """
        __tracebackhide__ = True
        if unknown := MEASURES.problem_with(measure):
            raise CircuitAssertionsError(unknown)
        chosen = _task(task)
        operands = {name.replace("_", "-"): value for name, value in operands.items() if value is not None}
        if MEASURES[measure].compares:
            return self._beside_others(measure, chosen, components or heads, **operands)
        if "without" in operands:
            operands["without"] = tuple(parse_head(head) for head in _listed(operands["without"]))
        wanted = self._wanted(measure, heads, components)
        spec = MEASURES[measure]
        given = "heads" if components is None else "components"
        _check(measure, chosen, operands, () if wanted is None else [given], {kind_of(one) for one in wanted or ()})
        if wanted == ():
            raise CircuitAssertionsError(f"no head is given to read {measure} of: leave `heads` out for every head")
        if spec.joint:
            everyone = tuple(self._runner.audit.opened(self.checkpoint).all_heads())
            operands["set"] = everyone if wanted is None else wanted
            wanted = None
        return self._runner.audit.read(Request(measure, chosen, tuple(operands.items()), wanted), self.checkpoint)

    def expect(
        self, measure: str, *, task: str | dict[str, Any] | Task, circuit: str | None = None, **said: Any
    ) -> Judgement | None:
        """Judge an assertion as a suite would, with the same words: `at_least=0.45`, `retains="80%"`, `heads="any"`.

        BROKEN fails the test here, with the suite's explanation. UNRESOLVED is told once the test is through, by
        pytest's outcome and in the audit, and fails it under `--circuit-unresolved=fail`.

        Args:
            measure: a measure of `circuit-assertions measures`.
            task: a kind of task (`"ioi"`) with its defaults, a mapping as a suite would hold it, or a task.
            circuit: the circuit whose roles are meant; default the one of the task.
            said: what else an assertion may say, with `_` for `-`, and the keys of its `expect:` beside them.

        Returns:
            The judgement; None where a suite would have skipped the assertion.

        Raises:
            CircuitAssertionsError: if a suite could not say so, or the checkpoint does not allow it.
        """
        __tracebackhide__ = True
        chosen = _task(task)
        known = sorted({one.circuit for one in self._circuits})
        if circuit is not None and circuit not in known and not unread_of(self._circuits, circuit):
            raise CircuitAssertionsError(f"unknown circuit {circuit!r}{closest(circuit, known)}")
        name = circuit or chain_for(chosen, "circuit").name
        suite = build_suite(measure, chosen, said, name, self._circuits)
        asked = PlannedAssertion(suite, suite.suite.assertions[0], self.checkpoint, self._circuits)
        self._runner.announce([asked])
        judged = self._runner.judge(asked)
        self._conclude(asked, judged)
        return None if isinstance(judged, NotApplicable) else judged

    def _beside_others(
        self, measure: str, task: Task, heads: object = None, circuit: str | None = None, **operands: Any
    ) -> Reading:
        """A reading that holds the checkpoint against the baseline, and against the corrupted one."""
        spec = MEASURES[measure]
        _check(measure, task, operands, () if heads is None else ["heads"])
        if not spec.joint and circuit is not None:
            raise CircuitAssertionsError(f"circuit: {measure} is a measure of the whole model: leave this out")
        role, name, roles = "circuit", circuit or chain_for(task, "circuit").name, {}
        if spec.joint:
            if not isinstance(heads, str):
                raise CircuitAssertionsError(
                    f'{measure} is read of a role, or of the whole circuit: heads="ROLE", or heads="circuit"'
                )
            role, binding = heads, self.circuit(name)
            if role != "circuit" and not binding.heads(role):
                pytest.skip(printable(f"{binding} has no {role} heads"))
            roles = dict(binding.circuit.roles)
        reading = self._runner.compared(measure, self.checkpoint, task, name, roles, role)
        if isinstance(reading, NotApplicable):
            pytest.skip(reading.reason)
        return reading

    def _wanted(
        self,
        measure: str,
        heads: Sequence[Head | str] | str | None,
        components: Sequence[Component | str] | str | None,
    ) -> tuple[Component, ...] | None:
        __tracebackhide__ = True
        if components is None:
            if isinstance(heads, str) and heads in chains_beside().roles:
                raise CircuitAssertionsError(
                    f"{heads!r} is a role, and {measure} is read of heads: "
                    f"use `heads=audit.circuit(...).heads({heads!r})`"
                )
            return None if heads is None else tuple(parse_head(head) for head in _listed(heads))
        if heads is not None:
            raise CircuitAssertionsError("give either `heads` or `components`")
        if isinstance(components, str) and components in COMPONENT_WORDS:
            shape = self._runner.audit.opened(self.checkpoint).shape
            return all_of(COMPONENT_WORDS[components], shape.layers, shape.heads)
        return tuple(parse_component(component) for component in _listed(components))


@printable_lines
def comparison_lines(op: str, left: object, right: object) -> Iterator[str]:
    """Why `assert reading >= 0.9` failed: the heads with their means and intervals. Nothing for other comparisons."""
    if op not in HOLDS or not isinstance(left, Reading) or not is_number(right):
        return
    yield f"{left.measure} {op} {right}"
    level = ALONE.among(len(left.columns()))
    promised = intervals_text(level.of_one, level.confidence, "these")
    yield f"over {left.prompts} prompts; unit: {left.unit}; {promised}"
    rows = []
    for head, values, interval in left.judged_columns():
        holds = "holds" if HOLDS[op](interval, right) else "does not hold"
        figure = Figure.of(MeasuredFigure(float(values.mean()), interval))
        rows.append(("" if head is None else str(head), *figure_cells(figure), holds))
    yield from table(rows, Column(), *FIGURES)
    yield from table(list(context_rows(ReadingResult.of(left))), LABELS)


def _check(
    measure: str, task: Task, operands: dict[str, Any], chosen: Collection[str], kinds: Collection[str] = ()
) -> None:
    """Refuse what a suite could not ask either, in the same words."""
    __tracebackhide__ = True
    for keys, message in validate(MEASURES[measure], task, operands, kinds=kinds, chosen=chosen, bound=True):
        raise CircuitAssertionsError(f"{keys[0]}: {message}")


def _listed(given: Sequence[_One | str] | str) -> Sequence[_One | str]:
    if isinstance(given, (str, Head)):
        return [given]
    parts: list[Any] = list(given)
    if len(parts) == 2 and all(type(part) is int for part in parts):  # [9, 10] is one head
        return [parse_head(parts)]  # type: ignore[list-item]
    return given


def _task(task: str | dict[str, Any] | Task) -> Task:
    __tracebackhide__ = True
    if not isinstance(task, (str, dict)):
        return task
    try:
        return _TASK.validate_python({"kind": task} if isinstance(task, str) else task)
    except ValidationError as error:
        raise CircuitAssertionsError(f"{task!r} is not a task: {error.errors()[0]['msg']}") from None
