"""Whether heads do what a role is about: where they look, what they copy, their scores on repeated tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from circuit_assertions.assertions.chains import Chain, Rule
from circuit_assertions.diagnosis import levels
from circuit_assertions.diagnosis.view import View
from circuit_assertions.heads import Head
from circuit_assertions.measures.intervals import interval_of_mean

__all__ = ["functions"]


def functions(
    chain: Chain,
    rule: Rule,
    view: View,
    repeated: View | None,
    heads: Sequence[Head] | None = None,
    meanwhile: Mapping[str, Any] | None = None,
) -> dict[Head, tuple[bool | None, dict[str, float]]]:
    """For every head: whether its function is the rule's, and what that was judged by.

    Where it looks at the position most on average, and this is not certain on these prompts, it is None.

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
        scores.append(None if where is None else where.by_head(score.measure, heads))
    result: dict[Head, tuple[bool | None, dict[str, float]]] = {}
    for head in heads if heads is not None else looked.heads:
        evidence = {look.name: float(looked.of(head).mean())}
        agrees = evidence[look.name] >= look.at_least
        more = [looked.of(head) - other.of(head) for other in others]
        agrees = agrees and all(float(one.mean()) > 0 for one in more)
        certain = all(interval_of_mean(one, level).low > 0 for one in more)
        for score, values in zip(rule.all_scores, scores, strict=True):
            if values is not None:
                evidence[score.measure] = float(np.mean(values.of(head)))
            agrees = agrees and evidence.get(score.measure, 0.0) >= score.least
        result[head] = (None if agrees and not certain else agrees, evidence)
    return result
