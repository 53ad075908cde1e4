"""Where a path ends: the logits, or the queries, keys or values of some heads at a position."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Discriminator, Field, InstanceOf, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema

from circuit_assertions.heads import Head, show_heads
from circuit_assertions.measures.spelled_heads import NamedHeads
from circuit_assertions.tasks.schema import Strict

__all__ = ["RECEIVER_KINDS", "Receiver", "ReceiverHeads", "ReceiverOf", "unknown_receiver"]

_WORDS = {"q": "query", "k": "key", "v": "value"}

RECEIVER_KINDS = ("logits", "heads", "bound")  # as pydantic puts them into the path of a problem


class Receiver(NamedTuple):
    """The queries (`q`), keys (`k`) or values (`v`) of heads at a position. Prints as `query of L9H9, L10H0 at end`."""

    which: Literal["q", "k", "v"]
    heads: tuple[Head, ...]
    at: str

    def __str__(self) -> str:
        return f"{_WORDS[self.which]} of {show_heads(self.heads, most=len(self.heads))} at {self.at}"


class ReceiverHeads(Strict):
    """Where a path ends that does not go straight to the logits: exactly one of `query`, `key` and `value`."""

    query: NamedHeads | None = Field(None, description="the heads whose queries receive: a role, or a list")
    key: NamedHeads | None = Field(None, description="the heads whose keys receive")
    value: NamedHeads | None = Field(None, description="the heads whose values receive")
    at: str | None = Field(
        None, description="the position at which they receive; default end, or the `query` or `key` that is read"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> ReceiverHeads:
        given = [heads for heads in (self.query, self.key, self.value) if heads is not None]
        if len(given) != 1:
            raise ValueError("a receiver is one of query, key and value: {query: ROLE, at: end}")
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


def unknown_receiver(value: Any) -> str:
    """What to say of a receiver that is none."""
    return f"unknown receiver {value!r}: write logits, or {{query: ROLE, at: end}}"


def _logits(value: Any) -> Any:
    if value != "logits":
        raise ValueError(unknown_receiver(value))
    return value


def _kind_of_receiver(value: Any) -> str:
    if isinstance(value, Receiver):
        return RECEIVER_KINDS[2]
    return RECEIVER_KINDS[isinstance(value, (dict, ReceiverHeads))]


# As a suite writes it, or a `Receiver`, whose roles are bound: as Python gives it.
ReceiverOf = Annotated[
    Annotated[Literal["logits"], BeforeValidator(_logits), Tag("logits")]
    | Annotated[ReceiverHeads, Tag("heads")]
    | Annotated[SkipJsonSchema[InstanceOf[Receiver]], Tag("bound")],
    Discriminator(_kind_of_receiver),
]
