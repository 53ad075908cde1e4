"""The causal share of the mean difference: what the fine-tuned model loses when it is projected out.

In the tuned model the component along the direction is replaced by the baseline's on the same text, at every position.
If the direction carries what was learned, text of the domain is predicted worse, and more so than with random
directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from circuit_assertions.engine.model import Model
from circuit_assertions.measures.figures import Array, Figure
from circuit_assertions.policy import Policy
from circuit_assertions.tuning.differing import Difference

__all__ = ["CausalShare", "causal_share"]

_SEED = 1


@dataclass(frozen=True)
class CausalShare:
    """Of one text: losses in nats a token.

    Attributes:
        of: `domain` or `ordinary`.
        tokens: how many were read.
        whole: loss of the tuned model; `baseline` that of the baseline.
        added: what the loss gains when the direction is projected out.
        random, differences: the same with each random direction and each difference of two activations [directions].
    """

    of: str
    tokens: int
    whole: float
    baseline: float
    added: Figure
    random: Array
    differences: Array

    @property
    def above(self) -> float:
        """The share of all these directions that cost less than the mean difference does."""
        return float((np.concatenate((self.random, self.differences)) < self.added.mean).mean())


def causal_share(
    of: str,
    models: tuple[Model, Model],
    difference: Difference,
    texts: Array,
    policy: Policy,
    tell: Callable[[str, int, int], None],
) -> CausalShare:
    """Project the direction, and random ones, out of the tuned model on a text.

    Args:
        models: the tuned model and the baseline.
        texts: tokens [texts, positions].
    """
    import torch

    from circuit_assertions.engine.stream import Stream, Without, pieces

    tuned, baseline = (Stream(one, difference.layer) for one in models)
    tokens = torch.as_tensor(texts)
    others = {
        piece.start: baseline.after_blocks(tokens[piece], [difference.layer])[0].float() for piece in pieces(tokens)
    }
    whole = tuned.losses(tokens)

    def gained(unit: Array) -> Array:
        vector = torch.as_tensor(unit)
        found: Array = (tuned.losses(tokens, lambda piece: Without(vector, others[piece.start])) - whole).numpy()
        return found

    directions = difference.random(policy.trace_random, _SEED)
    total = sum(map(len, directions))
    costs = list[float]()
    for unit in (*directions[0], *directions[1]):
        tell(f"causal share, {of} text", len(costs), total)
        costs.append(float(gained(unit).mean()))
    tell(f"causal share, {of} text", total, total)
    split = len(directions[0])
    return CausalShare(
        of,
        int(tokens.numel()),
        float(whole.mean()),
        float(baseline.losses(tokens).mean()),
        Figure.of_values(gained(difference.direction)),
        np.array(costs[:split]),
        np.array(costs[split:]),
    )
