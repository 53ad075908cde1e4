"""The roles of a chain, and the rules by which a head gets one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import Field, StrictBool, field_validator

from circuit_assertions.assertions.spelling import Share
from circuit_assertions.measures import MEASURES
from circuit_assertions.tasks.schema import Strict

__all__ = ["COLOURS", "LOOKS", "Attends", "Colour", "Role", "Rule", "Score"]

LOOKS = 0.1  # least attention to a position that counts as attending to it
_LONGEST_SHORT = 3  # letters that fit into a cell of a head map

Colour = Literal["blue", "orange", "green", "purple", "yellow", "sky", "grey"]
COLOURS: tuple[str, ...] = get_args(Colour)


class Role(Strict):
    """How reports show a role."""

    short: str | None = Field(
        None, description="its abbreviation in head maps, up to three letters; default its first two"
    )
    colour: Colour | None = Field(None, description="of its line in the picture of a training run")

    @field_validator("short")
    @classmethod
    def _fits_a_cell(cls, short: str | None) -> str | None:
        if short is not None and not (short.isalnum() and len(short) <= _LONGEST_SHORT):
            raise ValueError(f"{short!r} is not an abbreviation: give one to {_LONGEST_SHORT} letters or digits")
        return short


class Attends(Strict):
    """Attention from one position to another, and to which others it must be clearly more."""

    query: str = Field(alias="from", description="the position attended from")
    key: str = Field(alias="to", description="the position attended to")
    more_than: tuple[str, ...] = Field((), description="positions to which it attends clearly less")
    at_least: Share = Field(LOOKS, description="the least mean attention; default 10%")

    @property
    def name(self) -> str:
        """`attention end -> subject`, as files and tables name it."""
        return f"attention {self.query} -> {self.key}"

    @property
    def positions(self) -> frozenset[str]:
        """Every position that is looked from or at."""
        return frozenset({self.query, self.key, *self.more_than})


@dataclass(frozen=True)
class Score:
    """A score that a head must reach.

    Attributes:
        repeated: whether it is read on repeated random tokens.
        at: the position at which it is read; None where the score has no position, or is read at all of its own.
    """

    measure: str
    least: float
    repeated: bool = False
    at: str | None = None

    @property
    def operands(self) -> dict[str, str]:
        """The operands that it is read with."""
        return {} if self.at is None else {"at": self.at}


class Rule(Strict):
    """By what a head of a role is known, beside its effect at the rule's stage."""

    role: str = Field(description="one of the chain's roles")
    sign: Literal["positive", "negative"] = Field(
        "positive", description="of its effect: positive (default) favours the right answer"
    )
    attends: Attends
    scores: dict[str, Share] = Field({}, description="measures of a head on the task's own prompts, and their bounds")
    scores_on_repeated_tokens: dict[str, Share] = Field({}, description="the same, read on repeated random tokens")
    carries: dict[str, Share] = Field(
        {},
        description="what the head must carry, of what the task's counterfactual can change alone, and the least share "
        "of the logit difference that its outputs of that counterfactual move",
    )
    by_function_alone: StrictBool = Field(
        False, description="whether heads of this function are listed even if the model does not do the task"
    )

    @property
    def direction(self) -> int:
        """1 or -1: the sign of the effect."""
        return 1 if self.sign == "positive" else -1

    @property
    def own_scores(self) -> tuple[Score, ...]:
        """The scores that are read on the task's own prompts; those that have a position where the head attends to."""
        return tuple(
            Score(measure, least, at=self.attends.key if _has_a_position(measure) else None)
            for measure, least in self.scores.items()
        )

    @property
    def all_scores(self) -> tuple[Score, ...]:
        """Those and the ones that are read on repeated tokens."""
        repeated = self.scores_on_repeated_tokens.items()
        return (*self.own_scores, *(Score(measure, least, repeated=True) for measure, least in repeated))


def _has_a_position(measure: str) -> bool:
    return measure in MEASURES and "at" in MEASURES[measure].operands.by_key()
