"""One head of the baseline's circuit before and after: its effect, its attention, its copy score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from circuit_assertions.diagnosis.view import ByHead
from circuit_assertions.heads import Head
from circuit_assertions.measures import Interval
from circuit_assertions.measures.figures import Array, Figure, share_of
from circuit_assertions.measures.intervals import Level, interval_of_mean
from circuit_assertions.policy import Policy

__all__ = ["Change", "HeadChange", "Seen", "change_of"]

Change = Literal["intact", "amplified", "weakened", "silenced", "sign unclear", "sign flipped", "attention moved"]


@dataclass(frozen=True)
class HeadChange:
    """One head of the circuit, before and after.

    Attributes:
        before, after: its effect on the baseline and on the model, in logits, with the interval that tells its
            sign; `change` is their paired difference.
        looks: attention between its role's positions, before and after; None for roles without such positions.
        copies: its copy score, before and after, where its role copies.
        effects: what `before` and `after` are the means of, prompt by prompt [prompts].
    """

    head: Head
    role: str
    kind: Change
    before: Figure
    after: Figure
    change: Figure
    looks: tuple[Figure, Figure] | None = None
    copies: tuple[Figure, Figure] | None = None
    effects: tuple[Array, Array] = field(default=(np.empty(0), np.empty(0)), repr=False, compare=False)


@dataclass(frozen=True)
class Seen:
    """What the heads of a role are read by, in one model."""

    effect: ByHead
    looks: ByHead | None = None
    copies: ByHead | None = None


def change_of(
    head: Head, role: str, before: Seen, after: Seen, trifle: float, level: Level, policy: Policy
) -> HeadChange:
    """Compare a head with itself on the baseline.

    Args:
        trifle: the effect below which it counts as none, in logits.
        level: of each interval of a head; all heads of the circuit share it.
    """
    then, now = before.effect.of(head), after.effect.of(head)
    looks = _pair(before.looks, after.looks, head, level)
    looked_away = False
    if looks is not None and before.looks is not None and after.looks is not None:
        change = before.looks.of(head) - after.looks.of(head)
        less = interval_of_mean(change, level).low > 0
        looked_away = less and looks[1].mean < policy.head_attention_below * looks[0].mean
    kind = _kind(then, now, trifle, level, policy)
    if kind == "intact" and looked_away:
        kind = "attention moved"
    return HeadChange(
        head,
        role,
        kind,
        Figure.of_values(then, level),
        Figure.of_values(now, level),
        Figure.of_values(now - then, level),
        looks,
        _pair(before.copies, after.copies, head, level),
        (then, now),
    )


def _kind(then: Array, now: Array, trifle: float, level: Level, policy: Policy) -> Change:
    before, after = float(then.mean()), float(now.mean())
    turned = before * after < 0 and min(abs(before), abs(after)) >= trifle
    if turned and _slope(then, now, level).high < 0:
        return "sign flipped"  # prompt by prompt, however much the effect varies over them
    difference = interval_of_mean(now - then, level)
    if difference.low <= 0 <= difference.high or abs(after - before) < trifle:
        return "intact"
    if abs(before) < trifle:
        return "amplified"  # from nothing to something, whichever way the nothing leaned
    if turned and Figure.of_values(now, level).clear:
        return "sign flipped"
    share = after / before
    if turned and share <= -policy.head_silenced_below:
        return "sign unclear"
    if share < policy.head_silenced_below:  # on the other side of zero, but not far from it
        return "silenced"
    if share < policy.head_weakened_below:
        return "weakened"
    return "amplified" if share > policy.head_amplified_above else "intact"


def _slope(then: Array, now: Array, level: Level) -> Interval:
    """Of the effect now on the effect then, through the origin: near 1 for what it was, near -1 for its negative.

    Args:
        then: [prompts], not all zero.
        now: [prompts]
    """
    return interval_of_mean(share_of(now * then, then * then), level)


def _pair(before: ByHead | None, after: ByHead | None, head: Head, level: Level) -> tuple[Figure, Figure] | None:
    if before is None or after is None:
        return None
    return before.figure(head, level), after.figure(head, level)
