"""How single values of a suite are spelled: numbers, shares, components. Nothing here imports torch."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from circuit_assertions.components import Component, parse_component
from circuit_assertions.heads import Head
from circuit_assertions.measures.spelled_heads import HEAD_SCHEMA, each_once, head_list, is_one_head

__all__ = ["COMPONENT_WORDS", "Components", "HeadList", "Mark", "Number", "Percent", "Share"]

COMPONENT_WORDS = {"mlps": "mlp", "residual": "residual"}  # what `components:` may say, and the kind that is meant

_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


class Percent(float):
    """A number that was written as a share: `95%` is 0.95."""


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is not a number")
    percent = re.fullmatch(r"\s*(-?)(\d+(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
    try:
        number = Percent(f"{percent[1]}{float(percent[2]) / 100}") if percent else float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{value!r} is not a number") from error
    if not math.isfinite(number):
        raise ValueError(f"{value!r} should be a finite number")
    return number


def _share(value: Any) -> float:
    share = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if share is not None and float(share[1]) > 100:
        raise ValueError(f"{value!r} is more than the whole: give at most 100%")
    if share is not None and float(share[1]) > 0:
        return float(share[1]) / 100
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    raise ValueError(f"{value!r} is not a share: write it as 80%, or as 0.8")


def _components(value: Any) -> Any:
    if isinstance(value, str) and value.strip() in COMPONENT_WORDS:
        return value.strip()
    if isinstance(value, str) or is_one_head(value):
        value = [value]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{value!r} does not name components: write mlps, residual, or a list such as [L9H9, MLP4]")
    return each_once(tuple(parse_component(item) for item in value))


_COMPONENT_SCHEMA = {"anyOf": [{"type": "string", "pattern": r"^(L\d+H\d+|MLP\d+|RESID\d+)$"}, HEAD_SCHEMA["anyOf"][1]]}
_COMPONENTS_SCHEMA = {
    "description": "`mlps`, `residual` (the stream entering every block), or a list such as [L9H9, MLP4, RESID2]",
    "anyOf": [{"type": "string"}, {"type": "array", "items": _COMPONENT_SCHEMA, "minItems": 1}],
}
_SHARE_SCHEMA = {"anyOf": [{"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"}, {"type": "number"}]}

_NUMBER_SCHEMA = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\s*-?\d+(\.\d+)?\s*%\s*$"}]}

Number = Annotated[float, PlainValidator(_number), WithJsonSchema(_NUMBER_SCHEMA)]
Mark = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Share = Annotated[float, BeforeValidator(_share), WithJsonSchema(_SHARE_SCHEMA)]
Components = Annotated[str | tuple[Component, ...], BeforeValidator(_components), WithJsonSchema(_COMPONENTS_SCHEMA)]
HeadList = Annotated[
    tuple[Head, ...],
    BeforeValidator(head_list),
    PlainSerializer(lambda heads: [str(head) for head in heads]),
    WithJsonSchema({"type": "array", "items": HEAD_SCHEMA}),
]
