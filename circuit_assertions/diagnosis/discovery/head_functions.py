"""Whether heads do what a role is about: where they look, what they copy, their scores on repeated tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from circuit_assertions.diagnosis.discovery.chains import LOOKS, Rule
from circuit_assertions.diagnosis.view import View, corrected_interval
from circuit_assertions.heads import Head

__all__ = ["functions"]


def functions(
    rule: Rule, view: View, repeated: View | None, heads: Sequence[Head] | None = None, without: Sequence[Head] = ()
) -> dict[Head, tuple[bool | None, dict[str, float]]]:
    """For every head: whether its function is the rule's, and what that was judged by.

    Where it looks at the position most on average, and this is not certain on these prompts, it is None.

    Args:
        heads: who is judged; None for every head.
        without: heads that are knocked out while one looks where the others look.
    """
    look, aside = rule.look, {"without": tuple(without)} if without else {}
    looked = view.by_head("attention", query=look.query, key=look.key, **aside)
    others = [view.by_head("attention", query=look.query, key=key, **aside) for key in look.over]
    scores = []
    for score in rule.scores:
        where = repeated if score.repeated else view
        scores.append(None if where is None else where.by_head(score.measure, heads))
    result: dict[Head, tuple[bool | None, dict[str, float]]] = {}
    for head in heads if heads is not None else looked.heads:
        evidence = {f"attention {look.query} -> {look.key}": float(looked.of(head).mean())}
        agrees = evidence[f"attention {look.query} -> {look.key}"] >= LOOKS
        more = [looked.of(head) - other.of(head) for other in others]
        agrees = agrees and all(float(one.mean()) > 0 for one in more)
        certain = all(corrected_interval(one, len(looked.heads)).low > 0 for one in more)
        for score, values in zip(rule.scores, scores, strict=True):
            if values is not None:
                evidence[score.measure] = float(np.mean(values.of(head)))
            agrees = agrees and evidence.get(score.measure, 0.0) >= score.least
        result[head] = (None if agrees and not certain else agrees, evidence)
    return result
