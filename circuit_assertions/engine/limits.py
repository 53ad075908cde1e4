"""Limits of a model: facts that measures rely on and that do not hold for it, found once, when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.engine.errors import MeasuringError

__all__ = ["Limit", "LimitError", "limits_of"]


@dataclass(frozen=True)
class Limit:
    """One thing that a model does not allow, whichever measures it refuses.

    Attributes:
        facts: what does not hold, by the names that measures rely on: `("outputs", "writes")`.
        reason: why, in words that do not depend on a measure.
    """

    facts: tuple[str, ...]
    reason: str

    @property
    def name(self) -> str:
        """By what other lines refer to it: `outputs, writes`."""
        return ", ".join(self.facts)


class LimitError(MeasuringError):
    """A limit of a model refuses a measure.

    Attributes:
        measure: what cannot be measured.
        checkpoint: the model that has the limit.
        limit: the same for every measure that it refuses.
    """

    def __init__(self, measure: str, checkpoint: Checkpoint, limit: Limit) -> None:
        super().__init__(f"{measure} cannot be measured on {checkpoint}: {limit.reason}")
        self.measure, self.checkpoint, self.limit = measure, checkpoint, limit

    @property
    def short(self) -> str:
        """The same without the reason, for where that is told elsewhere."""
        return f'{self.measure} cannot be measured on {self.checkpoint}: limit "{self.limit.name}" of the model'


def limits_of(reasons: Mapping[str, str]) -> dict[str, Limit]:
    """Limits by fact. Facts that do not hold for the same reason have one limit.

    Args:
        reasons: why, for each fact that does not hold.
    """
    facts: dict[str, list[str]] = {}
    for fact, reason in reasons.items():
        facts.setdefault(reason, []).append(fact)
    limits = {reason: Limit(tuple(own), reason) for reason, own in facts.items()}
    return {fact: limits[reason] for fact, reason in reasons.items()}
