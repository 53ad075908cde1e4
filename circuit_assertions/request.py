"""What an audit reads: one measure of one task, for some heads, on some prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from circuit_assertions.components import Component, kind_of
from circuit_assertions.engine import MeasuringError
from circuit_assertions.measures import MEASURES, Receiver
from circuit_assertions.measures.declaring import CAUSAL
from circuit_assertions.measures.validating import validate
from circuit_assertions.tasks import Task

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """One thing to be read: a measure of a task, for some heads or other components.

    Attributes:
        heads: None for every head of the model.
        rows: the prompts that are read, by index, in this order; None for all of them.
    """

    measure: str
    task: Task
    operands: tuple[tuple[str, Any], ...] = ()
    heads: tuple[Component, ...] | None = None
    rows: tuple[int, ...] | None = None

    @property
    def key(self) -> tuple[str, Task, tuple[tuple[str, Any], ...], tuple[int, ...] | None]:
        """What must agree for two requests to be one column of the same reading."""
        return (self.measure, self.task, tuple(sorted(self.chosen.items())), self.rows)

    @property
    def chosen(self) -> dict[str, Any]:
        """The operands, with what was left to its default."""
        return MEASURES[self.measure].operands.defaults() | dict(self.operands)

    @property
    def relies_on(self) -> list[str]:
        """The facts of a model without which it cannot be read."""
        facts = [*MEASURES[self.measure].relies_on]
        facts += CAUSAL if self.chosen.get("without") else ()
        return facts + (["inputs"] if isinstance(self.chosen.get("receiver"), Receiver) else [])

    def check(self) -> None:
        """What a suite file is checked for when it is loaded, for requests that Python makes.

        Raises:
            MeasuringError: if the measure cannot be asked in this way.
        """
        spec = MEASURES[self.measure]
        kinds = {kind_of(component) for component in self.heads or ()}
        for _, problem in validate(spec, self.task, dict(self.operands), kinds=kinds, bound=True):
            raise MeasuringError(problem)
        if spec.joint and not self.chosen.get("set"):
            raise MeasuringError(f"{spec.name} is read of a set of heads, and none is given")
