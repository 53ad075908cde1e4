"""The suite format: what a suite file may say. Everything is validated here, and nothing here imports torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, StrictInt, field_validator

from circuit_assertions.assertions.expectation import Expectation
from circuit_assertions.assertions.operands import WithOperands
from circuit_assertions.assertions.registry import registry
from circuit_assertions.assertions.spelling import COMPONENT_WORDS, Components, Mark
from circuit_assertions.assertions.waivers import Waiver, refuse_pytest_marks
from circuit_assertions.components import kind_of
from circuit_assertions.measures import MEASURES
from circuit_assertions.measures.spelled_heads import Heads
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import Strict

__all__ = ["Assertion", "Expectation", "Suite", "condition_problems"]


class Assertion(WithOperands):
    """One line of a suite: a measure, its operands, and what is expected of it."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="the assertion's name, as pytest shows it")
    measure: str = Field(description="what is read: see `circuit-assertions measures`")
    task: str = Field(description="one of the suite's tasks")
    heads: Heads | None = Field(None, description="a role, `any`, `all`, `circuit`, or a list such as [L9H9, L10H0]")
    components: Components | None = Field(
        None, description="instead of heads: `mlps`, `residual`, or a list such as [L9H9, MLP4, RESID2]"
    )
    circuit: str | None = Field(
        None, min_length=1, description="the circuit whose roles this assertion uses; default the suite's"
    )
    layers: tuple[StrictInt, StrictInt] | None = Field(
        None, description="only heads in layers from .. to, both included"
    )
    quantifier: Literal["each", "any", "mean"] | None = Field(
        None, description="whether each head must meet the expectation (default), any one, or their mean"
    )
    at_least_heads: int | None = Field(
        None, ge=1, strict=True, description="how many heads must meet it, instead of a quantifier"
    )
    expect: Expectation = Field(description="what the reading must satisfy")
    why: str | None = Field(None, description="what it means when this breaks, shown with the failure")
    marks: tuple[Mark, ...] = Field((), description="pytest marks, for -m")
    required: StrictBool | None = Field(
        None, description="whether the gate fails if this is skipped; default: `required` of the suite"
    )
    waive: Waiver | None = Field(
        None, description="known not to hold: until that day it is reported and does not fail the gate"
    )

    @field_validator("measure")
    @classmethod
    def _known_measure(cls, measure: str) -> str:
        problem = MEASURES.problem_with(measure, approximate=False)
        if problem:
            raise ValueError(problem)
        return measure

    @field_validator("marks")
    @classmethod
    def _plain_marks(cls, marks: tuple[str, ...]) -> tuple[str, ...]:
        return refuse_pytest_marks(marks)

    @field_validator("layers")
    @classmethod
    def _layers_in_order(cls, layers: tuple[int, int] | None) -> tuple[int, int] | None:
        if layers is not None and not 0 <= layers[0] <= layers[1]:
            raise ValueError("layers are given as [first, last], both counted from 0")
        return layers

    @property
    def role(self) -> str | None:
        """The role that has to be bound by a circuit file, if heads are given by role."""
        return self.heads if isinstance(self.heads, str) and self.heads not in ("any", "all", "circuit") else None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of components that the assertion is about; none where it is about the whole model."""
        if isinstance(self.components, str):
            return (COMPONENT_WORDS[self.components],)
        return tuple(sorted({kind_of(component) for component in self.components or ()}))

    @property
    def of_all_heads(self) -> bool:
        """Whether the assertion is about all heads of the model."""
        return self.heads in ("any", "all")

    @property
    def needed(self) -> int | Literal["each", "mean"]:
        """How many heads must meet the expectation; `each`; or `mean` where they are judged together."""
        if self.at_least_heads is not None:
            return self.at_least_heads
        quantifier = self.quantifier or ("any" if self.heads == "any" else "each")
        return 1 if quantifier == "any" else quantifier


class Suite(Strict):
    """A suite file."""

    suite: str = Field(min_length=1, description="what the suite is about")
    source: str | None = Field(None, description="the paper or report behind it")
    circuit: str | None = Field(None, description="the circuit whose roles are used; default the file's name")
    required: StrictBool = Field(False, description="whether the gate fails where an assertion is skipped")
    by_name: StrictBool = Field(
        False, description="run this suite only where its file is named, not with a whole folder of suites"
    )
    tasks: dict[str, Task] = Field(min_length=1, description="where prompts come from, by name")
    assertions: tuple[Assertion, ...] = Field(min_length=1, description="what must hold")


def condition_problems() -> tuple[str, ...]:
    """Why conditions of other packages cannot be used, one sentence each."""
    # A key of both would be ambiguous in Python, where both are arguments of `audit.expect`.
    twice = sorted(set(Expectation.model_fields) & set(Assertion.model_fields))
    keys = (name.replace("_", "-") for name in twice)
    return (*registry().problems, *(f"the condition {key!r} cannot be used: an assertion has this key" for key in keys))
