"""One head of the baseline's circuit before and after: its effect, its attention, its copy score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from circuit_assertions.diagnosis.view import ByHead, corrected_interval
from circuit_assertions.heads import Head
from circuit_assertions.measures import Interval
from circuit_assertions.measures.figures import Array, Figure, share_of
from circuit_assertions.policy import Policy

__all__ = ["Change", "HeadChange", "Seen", "change_of"]

Change = Literal["intact", "amplified", "weakened", "silenced", "sign unclear", "sign flipped", "attention moved"]


@dataclass(frozen=True)
class HeadChange:
    """One head of the circuit, before and after.

    Attributes:
        before, after: its effect on the baseline and on the model, in logits, with the interval (Student's t) that
            tells its sign; `change` is their paired difference.
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
    head: Head, role: str, before: Seen, after: Seen, trifle: float, tests: int, policy: Policy
) -> HeadChange:
    """Compare a head with itself on the baseline.

    Args:
        trifle: the effect below which it counts as none, in logits.
        tests: how many heads are judged together.
    """
    then, now = before.effect.of(head), after.effect.of(head)
    looks = _pair(before.looks, after.looks, head, policy)
    looked_away = False
    if looks is not None and before.looks is not None and after.looks is not None:
        change = before.looks.of(head) - after.looks.of(head)
        less = corrected_interval(change, tests, policy.figure_confidence).low > 0
        looked_away = less and looks[1].mean < policy.head_attention_below * looks[0].mean
    kind = _kind(then, now, trifle, tests, policy)
    if kind == "intact" and looked_away:
        kind = "attention moved"
    return HeadChange(
        head,
        role,
        kind,
        _with_its_sign(then, tests, policy),
        _with_its_sign(now, tests, policy),
        Figure.of_values(now - then, policy.figure_confidence),
        looks,
        _pair(before.copies, after.copies, head, policy),
        (then, now),
    )


def _kind(then: Array, now: Array, trifle: float, tests: int, policy: Policy) -> Change:
    before, after = float(then.mean()), float(now.mean())
    turned = before * after < 0 and min(abs(before), abs(after)) >= trifle
    if turned and _slope(then, now, tests, policy).high < 0:
        return "sign flipped"  # prompt by prompt, however much the effect varies over them
    difference = corrected_interval(now - then, tests, policy.figure_confidence)
    if difference.low <= 0 <= difference.high or abs(after - before) < trifle:
        return "intact"
    if abs(before) < trifle:
        return "amplified"  # from nothing to something, whichever way the nothing leaned
    if turned and _with_its_sign(now, tests, policy).clear:
        return "sign flipped"
    share = after / before
    if turned and share <= -policy.head_silenced_below:
        return "sign unclear"
    if share < policy.head_silenced_below:  # on the other side of zero, but not far from it
        return "silenced"
    if share < policy.head_weakened_below:
        return "weakened"
    return "amplified" if share > policy.head_amplified_above else "intact"


def _slope(then: Array, now: Array, tests: int, policy: Policy) -> Interval:
    """Of the effect now on the effect then, through the origin: near 1 for what it was, near -1 for its negative.

    Args:
        then: [prompts], not all zero.
        now: [prompts]
    """
    return corrected_interval(share_of(now * then, then * then), tests, policy.figure_confidence)


def _with_its_sign(values: Array, tests: int, policy: Policy) -> Figure:
    return Figure(float(values.mean()), corrected_interval(values, tests, policy.figure_confidence))


def _pair(before: ByHead | None, after: ByHead | None, head: Head, policy: Policy) -> tuple[Figure, Figure] | None:
    if before is None or after is None:
        return None
    level = policy.figure_confidence
    return Figure.of_values(before.of(head), level), Figure.of_values(after.of(head), level)
