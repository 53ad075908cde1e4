"""Proposed thresholds: what the healthy model clears with its interval, and the margin."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from circuit_assertions.assertions.bounds import BoundCondition
from circuit_assertions.assertions.chains import Chain, Rule, Stage
from circuit_assertions.assertions.conditions.at_least import AtLeast
from circuit_assertions.assertions.conditions.at_most import AtMost
from circuit_assertions.diagnosis.discovery.followed import Followed
from circuit_assertions.diagnosis.view import Array, ByHead, View
from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES
from circuit_assertions.measures.intervals import Level, interval_of_mean, interval_of_share
from circuit_assertions.policy import Policy

__all__ = ["Proposal", "not_proposed", "propose"]

_NOTHING = 1e-100  # too small to be rounded, and no bound


@dataclass(frozen=True)
class Proposal:
    """A bound for one assertion, in the words of a suite.

    Attributes:
        says: measure, heads and operands, as a suite spells them.
        bound: on the mean over the role's heads, from below; from above, where the effect is negative.
        reads: what the healthy model reads; the distance between them is the margin.
    """

    says: dict[str, Any]
    bound: BoundCondition
    reads: float

    @property
    def asks(self) -> bool:
        """Whether the bound lies on the reading's side of zero; past it, it would be held by heads that do nothing."""
        return self.bound.number > 0 if self.bound.is_lower else self.bound.number < 0

    @property
    def margin(self) -> float:
        """How far the healthy model is from the bound."""
        return abs(self.reads - self.bound.number)


def propose(
    chain: Chain, followed: Followed, view: View, repeated: View | None, everyone: tuple[Head, ...]
) -> list[Proposal]:
    """Bounds for the behaviour, for what each role's heads do and look at, and for the circuit as a whole."""
    wanted: list[tuple[dict[str, Any], Array]] = [
        ({"measure": measure}, view.by_prompt(measure)) for measure in (view.task.answer_metric.name, "answer-rate")
    ]
    for role, (stage, rules) in _first_given(chain, followed).items():
        heads = followed.groups[role]
        wanted += [
            ({"heads": role, "quantifier": "mean"} | says, _mean_of(heads, values))
            for says, values in _of_role(stage, rules, followed, view, repeated)
        ]
    wanted += [
        ({"measure": measure, "heads": "circuit"}, view.by_prompt(measure, set=everyone))
        for measure in ("faithfulness", "faithfulness-over-random")
    ]
    made = (_proposal(says, values, view.policy) for says, values in wanted)
    return [proposal for proposal in made if proposal.asks]


def not_proposed(chain: Chain, followed: Followed) -> tuple[str, ...]:
    """The roles without bounds for their effect: it is one on heads that suites cannot name."""
    given = _first_given(chain, followed)
    return tuple(role for role, (stage, _) in given.items() if stage.name in followed.went_on_from)


def _first_given(chain: Chain, followed: Followed) -> dict[str, tuple[Stage, list[Rule]]]:
    """For every role that some head has, the stage that gave it first, and by which of its rules."""
    given = [(one.given_at, one.given_by) for one in followed.placed]
    first: dict[str, tuple[Stage, list[Rule]]] = {}
    for stage, rule in chain.rules:
        if (stage.name, rule) in given and first.setdefault(rule.role, (stage, []))[0] is stage:
            first[rule.role][1].append(rule)
    return first


def _of_role(
    stage: Stage, rules: Sequence[Rule], followed: Followed, view: View, repeated: View | None
) -> Iterator[tuple[dict[str, Any], ByHead]]:
    """What the heads of a role do and look at, as far as a suite can say it."""
    own = followed.groups[rules[0].role]
    nameable = stage.name not in followed.went_on_from
    if nameable:
        effect = stage.effect(followed.groups)
        assert effect is not None  # the role was given at this stage
        measure, operands = effect
        yield stage.said(), view.by_head(measure, own, **operands)
    for look in dict.fromkeys(rule.attends for rule in rules):
        if nameable or not stage.said_meanwhile():
            looked = view.by_head("attention", query=look.query, key=look.key, **stage.meanwhile(followed.groups))
            yield {"measure": "attention", "query": look.query, "key": look.key, **stage.said_meanwhile()}, looked
    for score in dict.fromkeys(replace(score, least=0.0) for rule in rules for score in rule.all_scores):
        where = repeated if score.repeated else view
        if where is not None:
            yield {"measure": score.measure, **score.operands}, where.by_head(score.measure, own, **score.operands)


def _mean_of(heads: tuple[Head, ...], values: ByHead) -> Array:
    mean: Array = np.mean([values.of(head) for head in heads], axis=0)
    return mean


def _proposal(says: dict[str, Any], values: Array, policy: Policy) -> Proposal:
    """What the same readings would be judged by, among as many others as a usual suite has."""
    level, mean = Level(policy.confidence).among(policy.proposal_together), float(values.mean())
    bounding: type[BoundCondition] = AtLeast if mean >= 0 else AtMost
    spec = MEASURES[says["measure"]]
    interval = interval_of_share(values, level) if spec.hits else interval_of_mean(values, level, spec.limits)
    edge = interval.low if bounding.is_lower else interval.high
    return Proposal(says, bounding(_rounded(edge, down=bounding.is_lower)), mean)


def _rounded(value: float, down: bool) -> float:
    """To two digits, never past `value`, so that the bound stays as easy to clear as was measured."""
    if abs(value) < _NOTHING:
        return 0.0 if value == 0 or (value > 0) == down else math.copysign(_NOTHING, value)
    digits = 1 - math.floor(math.log10(abs(value)))
    scaled = value * 10.0**digits
    near = round(scaled, 9)  # 2.3 times ten is not 23 in binary
    return round((math.floor(near) if down else math.ceil(near)) / 10.0**digits, max(digits, 0))
