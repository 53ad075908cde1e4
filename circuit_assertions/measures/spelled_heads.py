"""How heads are spelled where a suite names them: a role, one head, or a list. Nothing here imports torch."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, WithJsonSchema

from circuit_assertions.components import Component
from circuit_assertions.heads import Head, parse_head

__all__ = ["HEAD_SCHEMA", "Heads", "NamedHeads", "each_once", "head_list", "is_one_head"]

_One = TypeVar("_One", bound=Component)


def _heads(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"\s*L\d+H\d+\s*", value):
        return value.strip()
    if isinstance(value, str) or is_one_head(value):
        value = [value]
    if not isinstance(value, list) or not value:
        # A number gets its own sentence: 9.10 may have been meant as head 10 of layer 9.
        if isinstance(value, float):
            parse_head(value)
        raise ValueError(f"{value!r} does not name heads: write a role, `any`, or a list such as [L9H9, L10H0]")
    return head_list(value)


def _named_heads(value: Any) -> Any:
    """Heads where `any` is no answer: of a receiver, or knocked out."""
    if type(value) is tuple and all(isinstance(head, Head) for head in value):  # as Python gives them
        return value
    if value in ("any", "all", "circuit") or value in ([], {}) or not isinstance(value, (str, list, float)):
        raise ValueError(f"{value!r} does not name heads: write a role, or a list such as [L9H9, L10H0]")
    return _heads(value)


def is_one_head(value: Any) -> bool:
    """Whether this is one head, as [9, 10]."""
    return isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value)


def head_list(value: Any) -> tuple[Head, ...]:
    """A list of heads, or one head as [9, 10].

    Raises:
        ValueError: if it is neither, or a head is listed twice.
    """
    if is_one_head(value):
        value = [value]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{value!r} is not a list of heads: write [L9H9, L10H0]")
    return each_once(tuple(parse_head(item) for item in value))


def each_once(components: tuple[_One, ...]) -> tuple[_One, ...]:
    """The components, none of them twice.

    Raises:
        ValueError: naming the first that is listed twice.
    """
    twice = next((one for index, one in enumerate(components) if one in components[:index]), None)
    if twice is not None:
        raise ValueError(f"{twice} is listed twice")
    return components


HEAD_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": r"^L\d+H\d+$"},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2},
    ]
}
_HEADS_SCHEMA = {
    "description": "a role, `any`, `all`, or a list of heads such as [L9H9, L10H0]",
    "anyOf": [{"type": "string"}, {"type": "array", "items": HEAD_SCHEMA, "minItems": 1}],
}

Heads = Annotated[str | tuple[Head, ...], BeforeValidator(_heads), WithJsonSchema(_HEADS_SCHEMA)]
NamedHeads = Annotated[str | tuple[Head, ...], BeforeValidator(_named_heads), WithJsonSchema(_HEADS_SCHEMA)]
