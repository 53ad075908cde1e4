"""`--fail=EXPR`: in which way an assertion must change to be a regression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from circuit_assertions.records.errors import RecordError
from circuit_assertions.tasks.schema import did_you_mean
from circuit_assertions.verdict_words import Outcome

__all__ = ["CONDITIONS", "DEFAULT_FAIL", "Condition", "conditions_of", "of_outcomes"]

DEFAULT_FAIL = "broken"
CONDITIONS = {
    "broken": f"{Outcome.BROKEN} or {Outcome.ERROR} now, and it was not",
    "unresolved": f"{Outcome.HELD} before and {Outcome.UNRESOLVED} now",
    "lost": "judged before, and now skipped, not run, or missing",
    "weaker": "a reading is clearly nearer to zero; with `weaker:20%` by more than that share",
    "stronger": "a reading is clearly further from zero; with `stronger:20%` by more than that share",
    "reversed": "a reading clearly has the opposite sign",
    "changed": "an outcome or a reading clearly changed",
}
_WITH_A_SHARE = ("weaker", "stronger")
_BAD = (Outcome.BROKEN, Outcome.ERROR)
_JUDGED = (Outcome.HELD, Outcome.BROKEN, Outcome.UNRESOLVED)


@dataclass(frozen=True)
class Condition:
    """One condition.

    Attributes:
        share: by how much a reading must change, as a share of what it was; 0 for any certain change.
    """

    name: str
    share: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}:{100 * self.share:g}%" if self.share else self.name


def conditions_of(text: str) -> tuple[Condition, ...]:
    """The conditions of an expression: `broken,weaker:20%`.

    Raises:
        RecordError: if one is unknown, or its share is none.
    """
    return tuple(_condition(part.strip()) for part in text.split(","))


def _condition(text: str) -> Condition:
    name, colon, said = text.partition(":")
    if name not in CONDITIONS:
        hint = did_you_mean(name, list(CONDITIONS)) or f" (known: {', '.join(CONDITIONS)})"
        raise RecordError(f"--fail={text}: unknown condition{hint}")
    if not colon:
        return Condition(name)
    if name not in _WITH_A_SHARE:
        raise RecordError(f"--fail={text}: {name} takes no share; weaker and stronger do, as in weaker:20%")
    try:
        share = float(said.removesuffix("%")) / (100 if said.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < (1 if name == "weaker" else float("inf")):
        raise RecordError(f"--fail={text}: {said!r} is not a share of a reading: write one as 20% or 0.2")
    return Condition(name, share)


def of_outcomes(conditions: tuple[Condition, ...], before: str, after: str) -> Iterator[str]:
    """The conditions that two outcomes meet, whatever was read."""
    for condition in conditions:
        met = {
            "broken": after in _BAD and before not in _BAD,
            "unresolved": before == Outcome.HELD and after == Outcome.UNRESOLVED,
            "lost": before in _JUDGED and after not in (*_JUDGED, *_BAD),
            "changed": before != after,
        }
        if met.get(condition.name, False):
            yield str(condition)
