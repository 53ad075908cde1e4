"""The suite format: what a suite file may say. Everything is validated here, and nothing here imports torch."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    StrictInt,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from circuit_assertions.heads import Head, parse_head
from circuit_assertions.measures.catalogue import MEASURES
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import Strict, closest

__all__ = ["ROLES", "Assertion", "Expectation", "HeadList", "Suite"]

ROLES = (
    "name-mover",
    "negative-name-mover",
    "backup-name-mover",
    "s-inhibition",
    "induction",
    "duplicate-token",
    "previous-token",
)

_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is not a number")
    return value


def _share(value: Any) -> float:
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)) and float(match[1]) > 0:
        return float(match[1]) / 100
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    raise ValueError(f"{value!r} is no share: write it as 80%, or as 0.8")


def _heads(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"\s*L\d+H\d+\s*", value):
        return value.strip()
    if isinstance(value, str) or (isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value)):
        value = [value]
    if not isinstance(value, list) or not value:
        # A number gets its own sentence: 9.10 may have been meant as head 10 of layer 9.
        if isinstance(value, float):
            parse_head(value)
        raise ValueError(f"{value!r} names no heads: write a role, `any`, or a list such as [L9H9, L10H0]")
    return _head_list(value)


def _head_list(value: Any) -> tuple[Head, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{value!r} is no list of heads: write [L9H9, L10H0]")
    heads = tuple(parse_head(item) for item in value)
    twice = next((head for index, head in enumerate(heads) if head in heads[:index]), None)
    if twice is not None:
        raise ValueError(f"{twice} is listed twice")
    return heads


_HEAD_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^L\d+H\d+$"},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2},
    ]
}
_HEADS_SCHEMA = {
    "description": "a role, `any`, `all`, or a list of heads such as [L9H9, L10H0]",
    "anyOf": [{"type": "string"}, {"type": "array", "items": _HEAD_SCHEMA, "minItems": 1}],
}
_SHARE_SCHEMA = {"anyOf": [{"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"}, {"type": "number"}]}

Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Mark = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Share = Annotated[float, BeforeValidator(_share), WithJsonSchema(_SHARE_SCHEMA)]
Heads = Annotated[str | tuple[Head, ...], BeforeValidator(_heads), WithJsonSchema(_HEADS_SCHEMA)]
HeadList = Annotated[
    tuple[Head, ...],
    BeforeValidator(_head_list),
    PlainSerializer(lambda heads: [str(head) for head in heads]),
    WithJsonSchema({"type": "array", "items": _HEAD_SCHEMA}),
]


class Expectation(Strict):
    """What a reading must satisfy. Several together must all hold."""

    at_least: Number | None = Field(None, description="the mean is at least this")
    at_most: Number | None = Field(None, description="the mean is at most this")
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
        if between is not None and between[0] >= between[1]:
            raise ValueError(f"the lower bound comes first: [{between[1]}, {between[0]}]")
        return between

    @model_validator(mode="after")
    def _says_something(self) -> Expectation:
        bounds = (self.at_least, self.at_most, self.between, self.sign)
        if all(bound is None for bound in (*bounds, self.rank_within, self.retains)):
            raise ValueError("nothing is expected: give at-least, at-most, between, sign, rank-within or retains")
        if self.mostly is not None and all(bound is None for bound in bounds):
            raise ValueError("`mostly` needs a bound that prompts can meet: at-least, at-most, between or sign")
        if self.mostly is not None and self.mostly > 1:
            raise ValueError("`mostly` is a share of prompts, at most 100%")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at-least lies above at-most: nothing can meet both")
        return self

    @property
    def only_relative(self) -> bool:
        """Whether nothing is expected but a share of the baseline's reading."""
        absolute = (self.at_least, self.at_most, self.between, self.sign, self.rank_within)
        return all(bound is None for bound in absolute)


class ReceiverHeads(Strict):
    """Where a path ends that does not go straight to the logits: exactly one of `query`, `key` and `value`."""

    query: Heads | None = Field(None, description="the heads whose queries receive: a role, or a list")
    key: Heads | None = Field(None, description="the heads whose keys receive")
    value: Heads | None = Field(None, description="the heads whose values receive")
    at: str = Field("end", description="the position at which they receive")

    @model_validator(mode="after")
    def _exactly_one(self) -> ReceiverHeads:
        given = [heads for heads in (self.query, self.key, self.value) if heads is not None]
        if len(given) != 1:
            raise ValueError("a receiver is one of query, key and value: {query: name-mover, at: end}")
        if given[0] in ("any", "all", "circuit"):
            raise ValueError("receivers are given as a role or a list of heads")
        return self

    @property
    def which(self) -> Literal["q", "k", "v"]:
        """The input that receives."""
        return "q" if self.query is not None else "k" if self.key is not None else "v"

    @property
    def heads(self) -> str | tuple[Head, ...]:
        """The heads that receive: a role, or the heads themselves."""
        heads = self.query or self.key or self.value
        assert heads is not None
        return heads


def _logits(value: Any) -> Any:
    if value != "logits":
        raise ValueError(f"unknown receiver {value!r}: write logits, or {{query: name-mover, at: end}}")
    return value


def _kind_of_receiver(value: Any) -> str:
    return RECEIVER_KINDS[isinstance(value, (dict, ReceiverHeads))]


RECEIVER_KINDS = ("logits", "heads")

ReceiverOf = Annotated[
    Annotated[Literal["logits"], BeforeValidator(_logits), Tag("logits")] | Annotated[ReceiverHeads, Tag("heads")],
    Discriminator(_kind_of_receiver),
]


class Assertion(Strict):
    """One line of a suite: a measure, its operands, and what is expected of it."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="the assertion's name, as pytest shows it")
    measure: str = Field(description="what is read: see `circuit-assertions measures`")
    task: str = Field(description="one of the suite's tasks")
    heads: Heads | None = Field(None, description="a role, `any`, `all`, `circuit`, or a list such as [L9H9, L10H0]")
    layers: tuple[StrictInt, StrictInt] | None = Field(
        None, description="only heads in layers from .. to, both included"
    )
    quantifier: Literal["each", "any", "mean"] | None = Field(
        None, description="whether each head must meet the expectation (default), any one, or their mean"
    )
    at_least_heads: int | None = Field(
        None, ge=1, strict=True, description="how many heads must meet it, instead of a quantifier"
    )
    query: str | None = Field(None, description="the position attended from")
    key: str | None = Field(None, description="the position attended to")
    receiver: ReceiverOf | None = Field(None, description="where a path ends; default logits")
    ablation: str | None = Field(None, description="mean (default), resample or zero: what ablated heads put out")
    semantics: str | None = Field(None, description="through-mlps (default), or direct: what is live on a path")
    direction: str | None = Field(None, description="counterfactual-into-clean (default), or clean-into-counterfactual")
    expect: Expectation = Field(description="what the reading must satisfy")
    why: str | None = Field(None, description="what it means when this breaks, shown with the failure")
    marks: tuple[Mark, ...] = Field((), description="pytest marks, for -m")

    @field_validator("measure")
    @classmethod
    def _known_measure(cls, measure: str) -> str:
        if measure not in MEASURES:
            raise ValueError(f"unknown measure {measure!r}{closest(measure, list(MEASURES))}")
        return measure

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
    def of_all_heads(self) -> bool:
        """Whether the assertion speaks of whatever heads the model has."""
        return self.heads in ("any", "all")

    @property
    def needed(self) -> int | Literal["each", "mean"]:
        """How many heads must meet the expectation; `each`; or `mean` where they are judged together."""
        if self.at_least_heads is not None:
            return self.at_least_heads
        quantifier = self.quantifier or ("any" if self.heads == "any" else "each")
        return 1 if quantifier == "any" else quantifier

    @property
    def operands(self) -> tuple[tuple[str, Any], ...]:
        """The measure's operands that were given, by key: positions, and for effects receiver, semantics, direction."""
        names = ("query", "key", "receiver", "semantics", "direction", "ablation")
        given = ((name, getattr(self, name)) for name in names)
        return tuple((name, value) for name, value in given if value is not None)


class Suite(Strict):
    """A suite file."""

    suite: str = Field(min_length=1, description="what the suite is about")
    source: str | None = Field(None, description="the paper or report behind it")
    circuit: str | None = Field(None, description="the circuit whose roles are meant: `ioi`; default the file's name")
    tasks: dict[str, Task] = Field(min_length=1, description="where prompts come from, by name")
    assertions: tuple[Assertion, ...] = Field(min_length=1, description="what must hold")
