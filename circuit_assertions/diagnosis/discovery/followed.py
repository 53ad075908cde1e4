"""What following a chain leads to: heads with their effects, roles and evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from circuit_assertions.assertions.chains import Rule
from circuit_assertions.diagnosis.discovery.criteria import Missed
from circuit_assertions.heads import Head
from circuit_assertions.measures import Interval
from circuit_assertions.ordering import ranked

__all__ = ["Effect", "Followed", "Placed"]


@dataclass(frozen=True)
class Effect:
    """What one head does at one stage: mean and corrected interval, in logits."""

    stage: str
    mean: float
    interval: Interval

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.interval.low > 0 or self.interval.high < 0


@dataclass(frozen=True)
class Placed:
    """A head of the circuit.

    Attributes:
        effects: those that are clear, at every stage; the strongest is why it is listed.
        evidence: what its function was judged by: `attention end -> indirect-object`, `copy-score`; for unexplained
            heads where they look, most first.
        given_at: the stage whose rule gave the role.
        given_by: that rule.
        nearest: the rule that a head without a role came nearest to, of those whose effect it has.
        undecided: roles whose function it seems to have, which these prompts do not tell for certain.
    """

    head: Head
    role: str
    effects: tuple[Effect, ...]
    evidence: Mapping[str, float] = field(default_factory=dict)
    given_at: str | None = None
    undecided: tuple[str, ...] = ()
    given_by: Rule | None = None
    nearest: Missed | None = None

    @property
    def telling(self) -> Effect:
        """Its effect at the stage that gave its role; where none did, the largest."""
        own = [effect for effect in self.effects if effect.stage == self.given_at]
        return (own or ranked(self.effects, lambda effect: abs(effect.mean), decimals=2))[0]


@dataclass(frozen=True)
class Followed:
    """What a chain led to, heads in order.

    Attributes:
        groups: the heads that each stage and each role found, which later stages start from.
        unclear: heads that are not placed, with an effect that would count and whose interval holds zero.
        went_on_from: the stages whose role has no heads, and the heads without a role that they went on from.
    """

    placed: tuple[Placed, ...]
    groups: Mapping[str, tuple[Head, ...]]
    unclear: tuple[Head, ...] = ()
    went_on_from: Mapping[str, tuple[Head, ...]] = field(default_factory=dict)

    @property
    def roles(self) -> dict[str, tuple[Head, ...]]:
        """Heads by role, unexplained ones last."""
        names = dict.fromkeys(one.role for one in self.placed)
        ordered = [name for name in self.groups if name in names] + [name for name in names if name not in self.groups]
        return {name: tuple(one.head for one in self.placed if one.role == name) for name in ordered}

    @property
    def pairs(self) -> frozenset[tuple[str, Head]]:
        """Every (role, head): what two discoveries are compared by."""
        return frozenset((one.role, one.head) for one in self.placed)
