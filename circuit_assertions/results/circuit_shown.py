"""What a report shows of a circuit beside the verdicts: a part of the result of an audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from circuit_assertions.results.base import Part
from circuit_assertions.results.values import Figure, MetricFacts

if TYPE_CHECKING:
    from circuit_assertions.diagnosis.showing import HeadEffect, Look, LookedAt, Showing
    from circuit_assertions.heads import Head
    from circuit_assertions.measures.figures import Figure as MeasuredFigure

__all__ = ["AttendingHead", "CircuitShown", "EffectOfHead", "PromptShown"]

_DIGITS = 4  # of a share of attention


class EffectOfHead(Part):
    """The path effect of a head on the answer.

    Attributes:
        before: on the baseline; None without one, and so is `change`.
        change: the difference by prompt, after less before.
    """

    after: Figure
    before: Figure | None = None
    change: Figure | None = None

    @classmethod
    def of(cls, effect: HeadEffect) -> EffectOfHead:
        """A measured effect."""
        return cls(after=Figure.of(effect.after), before=_or_none(effect.before), change=_or_none(effect.change))


class AttendingHead(Part):
    """Where a head attends from one position of a prompt.

    Attributes:
        query: the position, as an index into the tokens.
        key: where its role attends to; None where that is not known.
        shares: one for each token up to the position; `before` the same on the baseline.
    """

    head: str
    role: str
    query: int
    key: int | None = None
    shares: tuple[float, ...]
    before: tuple[float, ...] | None = None

    @classmethod
    def of(cls, look: Look) -> AttendingHead:
        """A head that was looked at."""
        return cls(
            head=str(look.head),
            role=look.role,
            query=look.query,
            key=look.key,
            shares=_rounded(look.shares),
            before=None if look.before is None else _rounded(look.before),
        )


class PromptShown(Part):
    """A prompt, token by token, and where the circuit's heads attend in it."""

    tokens: tuple[str, ...]
    heads: tuple[AttendingHead, ...]

    @classmethod
    def of(cls, looked_at: LookedAt) -> PromptShown:
        """A prompt that was looked at."""
        return cls(tokens=looked_at.tokens, heads=tuple(map(AttendingHead.of, looked_at.looks)))


class CircuitShown(Part):
    """A circuit on one model: every head's effect, and attention on a few prompts. No verdict rests on it.

    Attributes:
        roles: of the circuit, by their heads; `shorts` are their abbreviations.
        layers, heads: of the model.
        metric: effects are in its unit.
        prompts: how many the effects were read on.
        effects: by head, of every head of the model; empty where they could not be read.
        looked_at: a few prompts.
        left_out: what is not shown, with the reason.
    """

    model: str
    baseline: str | None = None
    circuit: str
    task: str
    metric: MetricFacts
    layers: int
    heads: int
    roles: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    shorts: dict[str, str] = Field(default_factory=dict)
    prompts: int
    effects: dict[str, EffectOfHead] = Field(default_factory=dict)
    looked_at: tuple[PromptShown, ...] = ()
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, showing: Showing, roles: Mapping[str, Sequence[Head]], **known: object) -> CircuitShown:
        """What was read of a circuit.

        Args:
            known: the other fields.
        """
        return cls.model_validate(
            {
                **known,
                "roles": {role: tuple(map(str, heads)) for role, heads in roles.items()},
                "prompts": showing.prompts,
                "effects": {str(head): EffectOfHead.of(one) for head, one in showing.effects.items()},
                "looked_at": tuple(map(PromptShown.of, showing.looked_at)),
                "left_out": showing.left_out,
            }
        )


def _or_none(figure: MeasuredFigure | None) -> Figure | None:
    return None if figure is None else Figure.of(figure)


def _rounded(shares: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(share, _DIGITS) for share in shares)
