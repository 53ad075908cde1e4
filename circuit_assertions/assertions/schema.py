"""The suite format: what a suite file may say. Everything is validated here, and nothing here imports torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, StrictInt, field_validator, model_validator

from circuit_assertions.assertions.operands import WithOperands
from circuit_assertions.assertions.proposed import Bound, Proposed
from circuit_assertions.assertions.spelling import COMPONENT_WORDS, Components, Mark, Number, Share
from circuit_assertions.assertions.waivers import Waiver, refuse_pytest_marks
from circuit_assertions.components import kind_of
from circuit_assertions.measures import MEASURES
from circuit_assertions.measures.spelled_heads import Heads
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import Strict

__all__ = ["ROLES", "Assertion", "Expectation", "Suite"]

ROLES = (
    "name-mover",
    "negative-name-mover",
    "backup-name-mover",
    "s-inhibition",
    "induction",
    "duplicate-token",
    "previous-token",
)


class Expectation(Strict):
    """What a reading must satisfy. Several together must all hold."""

    at_least: Bound | None = Field(None, description="the mean is at least this")
    at_most: Bound | None = Field(None, description="the mean is at most this")
    between: tuple[Number, Number] | None = Field(None, description="the mean lies between these two")
    sign: Literal["positive", "negative"] | None = Field(None, description="the mean is clear of zero on this side")
    rank_within: int | None = Field(
        None,
        ge=1,
        strict=True,
        description="among all heads the head is one of the k highest (of the k lowest with sign: negative)",
    )
    retains: Share | None = Field(None, description="share of the baseline's reading that must be left, 80%")
    mostly: Share | None = Field(None, description="share of prompts for which the bounds must hold, 90%")

    @field_validator("between")
    @classmethod
    def _ordered(cls, between: tuple[float, float] | None) -> tuple[float, float] | None:
        if between is not None and between[0] == between[1]:
            raise ValueError(f"both bounds are {between[0]:g}: give a lower and a higher one, or at-least or at-most")
        if between is not None and between[0] > between[1]:
            raise ValueError(f"the lower bound comes first: [{between[1]}, {between[0]}]")
        return between

    @model_validator(mode="after")
    def _says_something(self) -> Expectation:
        bounds = (self.at_least, self.at_most, self.between, self.sign)
        if all(bound is None for bound in (*bounds, self.rank_within, self.retains)):
            raise ValueError("nothing is expected: give at-least, at-most, between, sign, rank-within or retains")
        if self.mostly is not None and all(bound is None for bound in bounds):
            raise ValueError("`mostly` needs a bound that prompts can meet: at-least, at-most, between or sign")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise ValueError("at-least lies above at-most: nothing can meet both")
        return self

    @property
    def lower(self) -> float | None:
        """What the mean is at least; of a bound that a circuit file may propose, what stands where it proposes none."""
        return self.at_least.otherwise if isinstance(self.at_least, Proposed) else self.at_least

    @property
    def upper(self) -> float | None:
        """What the mean is at most, in the same way."""
        return self.at_most.otherwise if isinstance(self.at_most, Proposed) else self.at_most

    @property
    def is_empty(self) -> bool:
        """Whether nothing is expected; of what a suite says, only once what cannot be judged was taken out."""
        return self.only_relative and self.retains is None

    @property
    def only_relative(self) -> bool:
        """Whether nothing is expected but a share of the baseline's reading."""
        absolute = (self.at_least, self.at_most, self.between, self.sign, self.rank_within)
        return all(bound is None for bound in absolute)


class Assertion(WithOperands):
    """One line of a suite: a measure, its operands, and what is expected of it."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="the assertion's name, as pytest shows it")
    measure: str = Field(description="what is read: see `circuit-assertions measures`")
    task: str = Field(description="one of the suite's tasks")
    heads: Heads | None = Field(None, description="a role, `any`, `all`, `circuit`, or a list such as [L9H9, L10H0]")
    components: Components | None = Field(
        None, description="instead of heads: `mlps`, `residual`, or a list such as [L9H9, MLP4, RESID2]"
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
    circuit: str | None = Field(None, description="the circuit whose roles are used: `ioi`; default the file's name")
    required: StrictBool = Field(False, description="whether the gate fails where an assertion is skipped")
    tasks: dict[str, Task] = Field(min_length=1, description="where prompts come from, by name")
    assertions: tuple[Assertion, ...] = Field(min_length=1, description="what must hold")
