"""What a rule asks of a head, one criterion each, and by how much a head missed the rule that it came nearest to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Criterion", "Missed", "nearest_of"]


@dataclass(frozen=True)
class Criterion:
    """One thing that a rule asks of a head.

    Attributes:
        name: as evidence names it: `attention end -> indirect-object`, `copy-score`.
        reads: the head's mean; None where it could not be read.
        needed: the least mean.
        met: whether it is reached; where positions are compared, whether that is clear on these prompts.
        more_than: the position to which the head must attend clearly less, where `needed` is its attention to that.
    """

    name: str
    reads: float | None
    needed: float
    met: bool
    more_than: str | None = None

    @property
    def lacking(self) -> float:
        """The share of what is needed that is missing: 0 to 1."""
        if self.met or self.needed <= 0:
            return 0.0
        return 1.0 if self.reads is None else min(1.0, max(0.0, 1.0 - self.reads / self.needed))


@dataclass(frozen=True)
class Missed:
    """A rule that a head has the effect for, and not the function.

    Attributes:
        stage: where it has the effect.
        criteria: all that the rule asks, in its order.
    """

    role: str
    stage: str
    criteria: tuple[Criterion, ...]

    @property
    def distance(self) -> tuple[float, float]:
        """How far the head is from the role: what is lacking most, then everything that is; to two digits."""
        lacking = [criterion.lacking for criterion in self.criteria]
        return round(max(lacking, default=0.0), 2), round(sum(lacking), 2)

    @property
    def missed(self) -> tuple[Criterion, ...]:
        """The criteria that are not met."""
        return tuple(criterion for criterion in self.criteria if not criterion.met)


def nearest_of(missed: Iterable[Missed]) -> Missed | None:
    """The rule that a head came nearest to; of several the first."""
    return min(missed, key=lambda one: one.distance, default=None)
