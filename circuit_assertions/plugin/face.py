"""The suite's vocabulary in Python: what the `audit` fixture gives to a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Binding, load_circuits
from circuit_assertions.assertions.packaged import packaged_suites
from circuit_assertions.assertions.running import SuiteRunner
from circuit_assertions.audit import Request
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.heads import Head, parse_head
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import closest

__all__ = ["AuditedCheckpoint"]

_TASK: TypeAdapter[Task] = TypeAdapter(Task)


@dataclass(frozen=True)
class AuditedCheckpoint:
    """One checkpoint under audit.

    Readings compare with numbers: `audit.measure(...) >= 0.9` holds when every head's interval lies above 0.9, and a
    failed `assert` shows the table of heads.
    """

    _runner: SuiteRunner
    checkpoint: Checkpoint

    def circuit(self, name: str) -> Binding:
        """The circuit called `name` that fits this model; its `heads(role)` are tuples of heads.

        Skips the test where no circuit file fits, as a suite does.
        """
        binding = self._runner.binding(self.checkpoint, name, load_circuits(packaged_suites() / "circuits"))
        if binding is None:
            pytest.skip(f"no circuit file binds the roles of {name!r} for {self.checkpoint}")
        return binding

    def measure(
        self,
        measure: str,
        *,
        task: str | dict[str, Any] | Task,
        heads: Sequence[Head | str] | None = None,
        **operands: str,
    ) -> Reading:
        """Take a reading.

        Args:
            measure: a measure of `circuit-assertions measures`.
            task: a kind of task (`"ioi"`) with its defaults, a mapping as a suite would hold it, or a task.
            heads: heads as `L9H9` or `Head`; every head where it is left out.
            operands: the positions that the measure takes, `query="end"`.

        Raises:
            CircuitAssertionsError: if the measure, the task or the checkpoint does not allow it.
        """
        if measure not in MEASURES:
            raise CircuitAssertionsError(f"unknown measure {measure!r}{closest(measure, list(MEASURES))}")
        wanted = None if heads is None else tuple(parse_head(head) for head in heads)
        request = Request(measure, _task(task), tuple(operands.items()), wanted)
        return self._runner.audit.read(request, self.checkpoint)


def _task(task: str | dict[str, Any] | Task) -> Task:
    if not isinstance(task, (str, dict)):
        return task
    try:
        return _TASK.validate_python({"kind": task} if isinstance(task, str) else task)
    except ValidationError as error:
        raise CircuitAssertionsError(f"{task!r} is no task: {error.errors()[0]['msg']}") from error
