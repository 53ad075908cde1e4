"""Bounds that a circuit file proposes: `at-least: {proposed: 80%, otherwise: 2.0}`, and how they are spelled.

`discover` writes into a circuit file what the model that it found the circuit on clears with the whole
interval of its reading. An assertion may take a share of that in place of a number that was chosen for all models.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag

from circuit_assertions.assertions.spelling import Number, Share
from circuit_assertions.measures.tolerances import Setting
from circuit_assertions.tasks.schema import Strict

__all__ = ["BOUND_KINDS", "Bound", "Proposed", "Sourced"]

BOUND_KINDS = ("number", "by-circuit-file")  # as pydantic puts them into the path of a problem


class Proposed(Strict):
    """A bound out of the model's own circuit file."""

    proposed: Share = Field(description="share of the proposed bound that is required: 100% for the bound itself")
    otherwise: Number | None = Field(None, description="the bound where the circuit file proposes none")


class Sourced(float):
    """A bound that came out of a file, with the words that say so."""

    source: str
    found_in: Setting | None

    @classmethod
    def of(cls, bound: float, source: str, found_in: Setting | None = None) -> Self:
        """The bound, where it comes from, and the setting that it was measured under, if that is known."""
        made = cls(bound)
        made.source, made.found_in = source, found_in
        return made


def _spelled_out(value: Any) -> Any:
    return {"proposed": 1.0} if value == "proposed" else value


def _kind(value: Any) -> str:
    return BOUND_KINDS[isinstance(value, (dict, Proposed))]


Bound = Annotated[
    Annotated[Number, Tag(BOUND_KINDS[0])] | Annotated[Proposed, Tag(BOUND_KINDS[1])],
    Discriminator(_kind),
    BeforeValidator(_spelled_out),
]
