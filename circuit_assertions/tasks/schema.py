"""How everything that a suite may say is validated: strictly, with the keys spelled in kebab-case."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

__all__ = ["Strict", "closest", "did_you_mean", "refuse_unknown"]

_LONGEST_WORD, _MOST_WORDS = 100, 500  # beyond them, looking for what was meant takes too long


def closest(word: str, known: list[str]) -> str:
    """` (did you mean 'at-least'?)`, or the choices where none is close and they are few."""
    if meant := did_you_mean(word, known):
        return meant
    return f" (one of {', '.join(sorted(known))})" if len(known) <= 24 else ""


def did_you_mean(word: str, known: list[str]) -> str:
    """` (did you mean 'at-least'?)`; empty where none is close, or the word is known."""
    if len(word) > _LONGEST_WORD or len(known) > _MOST_WORDS:
        return ""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near and word not in known else ""


class Strict(BaseModel):
    """A mapping in a suite: unknown keys are errors, values are never converted in silence."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=False,  # YAML gives lists where tuples are declared; the field types below are strict where it matters
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if isinstance(value, dict):
            refuse_unknown(value, [field.alias or name for name, field in cls.model_fields.items()])
        return value


def refuse_unknown(value: dict[Any, Any], known: list[str]) -> None:
    """Refuse a mapping with other keys than these.

    Raises:
        PydanticCustomError: naming all at once, because pydantic takes one error of a mapping.
    """
    unknown = {key: closest(str(key), known) for key in value if key not in known}
    if unknown:
        keys = "; ".join(f"unknown key {key!r}{hint}" for key, hint in unknown.items())
        raise PydanticCustomError("unknown_key", "{keys}", {"keys": keys, "unknown": unknown})
