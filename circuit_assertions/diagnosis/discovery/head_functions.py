"""Whether heads do what a role is about: where they look, what they copy and carry, their scores on repeated tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from circuit_assertions.assertions.chains import Chain, Rule
from circuit_assertions.diagnosis import levels
from circuit_assertions.diagnosis.discovery.criteria import Criterion
from circuit_assertions.diagnosis.view import Array, ByHead, View
from circuit_assertions.heads import Head
from circuit_assertions.measures.intervals import Level, interval_of_mean

__all__ = ["Judged", "functions"]


@dataclass(frozen=True)
class Judged:
    """Whether a head's function is a rule's.

    Attributes:
        agrees: None where it looks at the position most on average, and this is not certain on these prompts.
        evidence: what it was judged by.
        criteria: the same with what is needed.
    """

    agrees: bool | None
    evidence: Mapping[str, float]
    criteria: tuple[Criterion, ...]


def functions(
    chain: Chain,
    rule: Rule,
    view: View,
    repeated: View | None,
    heads: Sequence[Head] | None = None,
    meanwhile: Mapping[str, Any] | None = None,
) -> dict[Head, Judged]:
    """For every head: whether its function is the rule's, and what that was judged by.

    Args:
        chain: the rule's; where it looks is one of its questions (`levels.of_discovery`).
        heads: who is judged; None for every head.
        meanwhile: further operands of attention, such as heads that are knocked out.
    """
    look, aside = rule.attends, dict(meanwhile or {})
    looked = view.by_head("attention", query=look.query, key=look.key, **aside)
    others = [view.by_head("attention", query=look.query, key=key, **aside) for key in look.more_than]
    level, scores = levels.of_discovery(view.policy, chain, len(looked.heads)), []
    for score in rule.all_scores:
        where = repeated if score.repeated else view
        scores.append(None if where is None else where.by_head(score.measure, heads, **score.operands))
    carried = {what: _carried(view, what, heads) for what in rule.carries}
    return {
        head: _judged(
            [
                *_looks(rule, head, looked, others, level),
                *_scores(rule, head, scores),
                *(_carries(rule, what, values.of(head), level) for what, values in carried.items()),
            ]
        )
        for head in (heads if heads is not None else looked.heads)
    }


def _looks(rule: Rule, head: Head, looked: ByHead, others: Sequence[ByHead], level: Level) -> list[Criterion]:
    look, values = rule.attends, looked.of(head)
    mean = float(values.mean())
    least = Criterion(look.name, mean, look.at_least, mean >= look.at_least)
    return [
        least,
        *(
            Criterion(
                look.name,
                mean,
                float(other.of(head).mean()),
                interval_of_mean(values - other.of(head), level).low > 0,
                more_than=key,
            )
            for key, other in zip(look.more_than, others, strict=True)
        ),
    ]


def _scores(rule: Rule, head: Head, scores: Sequence[ByHead | None]) -> list[Criterion]:
    found = []
    for score, values in zip(rule.all_scores, scores, strict=True):
        mean = None if values is None else float(np.mean(values.of(head)))
        found.append(Criterion(score.measure, mean, score.least, (mean or 0.0) >= score.least))
    return found


def _carried(view: View, what: str, heads: Sequence[Head] | None) -> ByHead:
    """How far each head alone moves the answer to that of the counterfactual which changes `what`, as a share.

    Its outputs are those of that counterfactual at every position, and everything after it is live.
    """
    task = view.task.changing(what)
    assert task is not None  # the chain fits the task
    changed = replace(view, task=task)
    effects = changed.by_head("total-effect", heads)
    return ByHead(effects.heads, effects.values / abs(float(changed.behaviour().mean())))


def _carries(rule: Rule, what: str, moved: Array, level: Level) -> Criterion:
    """A head carries something if it moves the answer by enough, and clearly by more than nothing."""
    mean, least = float(moved.mean()), rule.carries[what]
    return Criterion(f"carries {what}", mean, least, mean >= least and interval_of_mean(moved, level).low > 0)


def _judged(criteria: Sequence[Criterion]) -> Judged:
    evidence = {one.name: one.reads for one in criteria if one.reads is not None}
    on_average = all(one.met if one.more_than is None else evidence[one.name] > one.needed for one in criteria)
    certain = all(one.met for one in criteria)
    return Judged(certain or (None if on_average else False), evidence, tuple(criteria))
