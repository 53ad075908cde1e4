"""Follow a chain through a model: at every stage, heads with an effect, and the role that their function gives them.

A head gets a role only where cause and function agree: an effect whose interval, corrected for the number of heads, is
clear of zero and which is no trifle beside the behaviour; and attention between the role's positions, copying, scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from circuit_assertions.diagnosis.discovery.chains import LOOKS, Anywhere, Chain, Inputs, KnockOut, Logits, Rule, Stage
from circuit_assertions.diagnosis.view import ByHead, View, corrected_interval
from circuit_assertions.heads import Head
from circuit_assertions.measures import Interval, Receiver

__all__ = ["UNEXPLAINED", "Effect", "Followed", "Placed", "follow", "functions"]

UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Effect:
    """What one head does at one stage: mean and corrected interval, in logits."""

    stage: str
    mean: float
    interval: Interval


@dataclass(frozen=True)
class Placed:
    """A head of the circuit.

    Attributes:
        effects: those that are clear, at every stage; the strongest is why it is listed.
        evidence: what its function was judged by: `attention end -> indirect-object`, `copy-score`; for unexplained
            heads what was tried.
        given_at: the stage whose rule gave the role.
    """

    head: Head
    role: str
    effects: tuple[Effect, ...]
    evidence: Mapping[str, float] = field(default_factory=dict)
    given_at: str | None = None

    @property
    def telling(self) -> Effect:
        """Its effect at the stage that gave its role; where none did, the largest."""
        own = [effect for effect in self.effects if effect.stage == self.given_at]
        return own[0] if own else max(self.effects, key=lambda effect: abs(effect.mean))


@dataclass(frozen=True)
class Followed:
    """What a chain led to, heads in order.

    Attributes:
        groups: the heads that each stage and each role found, which later stages look back from.
    """

    placed: tuple[Placed, ...]
    groups: Mapping[str, tuple[Head, ...]]

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


@dataclass
class _Found:
    role: str | None = None
    effects: list[Effect] = field(default_factory=list)
    evidence: dict[str, float] = field(default_factory=dict)
    given_at: str | None = None


def follow(chain: Chain, view: View, repeated: View | None, least: float) -> Followed:
    """Follow the chain's stages on the view's prompts.

    Args:
        repeated: repeated random tokens on the same checkpoint, for the scores that are taken of them; None where the
            model cannot be asked for them, and no role that needs them is given.
        least: the smallest effect that counts, as a share of the logit difference.
    """
    floor = least * abs(float(view.by_prompt("logit-difference").mean()))
    found: dict[Head, _Found] = {}
    groups: dict[str, tuple[Head, ...]] = {}
    for stage in chain.stages:
        effects = _effects(stage, view, groups)
        if effects is None:
            continue
        clear = dict(_clear(stage, effects, floor * stage.times))
        groups[stage.name] = tuple(head for head, effect in clear.items() if effect.mean > 0)
        for head, effect in clear.items():
            one = found.setdefault(head, _Found())
            if not isinstance(stage.to, Anywhere) or not one.effects:
                one.effects.append(effect)
        for rule in stage.rules:
            groups[rule.role] = _give_role(rule, stage, clear, found, view, repeated, groups)
    placed = [
        Placed(head, one.role or UNEXPLAINED, tuple(one.effects), one.evidence, one.given_at)
        for head, one in found.items()
    ]
    return Followed(tuple(sorted(placed, key=lambda one: one.head)), groups)


def _effects(stage: Stage, view: View, groups: Mapping[str, tuple[Head, ...]]) -> ByHead | None:
    """Every head's effect on the stage's receiver; None where an earlier stage found nobody to receive."""
    to = stage.to
    if isinstance(to, Logits):
        return view.by_head("path-effect")
    if isinstance(to, Anywhere):
        return view.by_head("total-effect")
    heads = groups.get(to.of, ())
    if not heads:
        return None
    if isinstance(to, Inputs):
        return view.by_head("path-effect", receiver=Receiver(to.which, heads, to.at))
    before, after = view.by_head("direct-effect"), view.by_head("direct-effect", without=heads)
    others = [index for index, head in enumerate(before.heads) if head not in heads]
    gained = after.values[:, others] - before.values[:, others]
    return ByHead(tuple(before.heads[index] for index in others), gained)


def _clear(stage: Stage, effects: ByHead, floor: float) -> Iterator[tuple[Head, Effect]]:
    for head in effects.heads:
        values = effects.of(head)
        mean = float(values.mean())
        if abs(mean) < max(floor, 1e-12):
            continue
        interval = corrected_interval(values, len(effects.heads))
        takes_over = not isinstance(stage.to, KnockOut) or mean > 0  # a head that rests less is no backup
        if (interval.low > 0 or interval.high < 0) and takes_over:
            yield head, Effect(stage.name, mean, interval)


def _give_role(
    rule: Rule,
    stage: Stage,
    clear: Mapping[Head, Effect],
    found: Mapping[Head, _Found],
    view: View,
    repeated: View | None,
    groups: Mapping[str, tuple[Head, ...]],
) -> tuple[Head, ...]:
    """Give the rule's role to those whose function it is and who have none yet, and name them."""
    without = groups[stage.to.of] if isinstance(stage.to, KnockOut) else ()
    candidates = [
        head for head, effect in clear.items() if effect.mean * rule.sign > 0 and found[head].role in (None, rule.role)
    ]
    if not candidates:
        return ()
    function = functions(rule, view, repeated, without)
    given = []
    for head in candidates:
        agrees, evidence = function[head]
        if agrees:
            found[head].role, found[head].evidence, found[head].given_at = rule.role, evidence, stage.name
            given.append(head)
        elif found[head].role is None:
            found[head].evidence.update(evidence)
    return tuple(given)


def functions(
    rule: Rule, view: View, repeated: View | None, without: Sequence[Head] = ()
) -> dict[Head, tuple[bool, dict[str, float]]]:
    """For every head: whether its function is the rule's, and what that was judged by.

    Args:
        without: heads that are knocked out while one looks where the others look.
    """
    look, aside = rule.look, {"without": tuple(without)} if without else {}
    looked = view.by_head("attention", query=look.query, key=look.key, **aside)
    others = [view.by_head("attention", query=look.query, key=key, **aside) for key in look.over]
    scores = []
    for score in rule.scores:
        where = repeated if score.repeated else view
        scores.append(None if where is None else where.by_head(score.measure))
    result = {}
    for head in looked.heads:
        evidence = {f"attention {look.query} -> {look.key}": float(looked.of(head).mean())}
        agrees = evidence[f"attention {look.query} -> {look.key}"] >= LOOKS
        for other in others:
            more = looked.of(head) - other.of(head)
            agrees = agrees and corrected_interval(more, len(looked.heads)).low > 0
        for score, values in zip(rule.scores, scores, strict=True):
            if values is not None:
                evidence[score.measure] = float(np.mean(values.of(head)))
            agrees = agrees and evidence.get(score.measure, 0.0) >= score.least
        result[head] = (agrees, evidence)
    return result
