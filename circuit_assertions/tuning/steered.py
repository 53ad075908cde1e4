"""Steering: the mean difference is added to the stream while the model writes, as strongly as its text stays coherent.

Coherence is judged by the model's own loss, without the addition, on what it wrote. No other model is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from circuit_assertions.engine.model import Model
from circuit_assertions.measures.figures import Array
from circuit_assertions.policy import Policy
from circuit_assertions.tuning.differing import Difference
from circuit_assertions.tuning.texts import as_texts

__all__ = ["Steered", "steer"]

_TEXTS, _LENGTH = 4, 24  # texts that are written, and tokens of each
_RANGE = (0.05, 50.0)  # strengths among which is searched, in natural spreads
_SEED = 0


@dataclass(frozen=True)
class Steered:
    """Texts that the model wrote from the same starts and the same seed.

    Attributes:
        strength: how far the stream was moved, in natural spreads; 0 if no strength was coherent.
        plain, steered: pairs of texts.
        losses: mean loss of the plain and of the steered texts, in nats a token.
    """

    strength: float
    plain: tuple[str, ...]
    steered: tuple[str, ...]
    losses: tuple[float, float]


def steer(
    model: Model,
    difference: Difference,
    texts: Array,
    first: int,
    policy: Policy,
    tell: Callable[[str, int, int], None],
) -> Steered:
    """Search the largest strength that keeps the text coherent, and write with it.

    Args:
        texts: ordinary text, whose starts are written on [texts, positions].
        first: how many positions at the start are not steered.
    """
    import torch

    from circuit_assertions.engine.stream import Adding, Stream

    stream = Stream(model, difference.layer)
    starts = torch.as_tensor(texts[:_TEXTS, : first + 1])
    length = min(_LENGTH, model.layout.positions)

    def write(strength: float) -> tuple[float, torch.Tensor]:
        vector = torch.as_tensor(strength * difference.spread * difference.direction)
        written = stream.written(starts, length, _SEED, Adding(vector, first) if strength else None)
        return float(stream.losses(written, first=starts.shape[1]).mean()), written

    plain_loss, plain = write(0.0)
    best = (0.0, plain_loss, plain)
    low, high = map(math.log, _RANGE)
    for step in range(policy.trace_steps):
        tell("steering", step, policy.trace_steps)
        middle = (low + high) / 2
        loss, written = write(math.exp(middle))
        if loss <= plain_loss + policy.trace_coherent_within:
            low, best = middle, (math.exp(middle), loss, written)
        else:
            high = middle
    tell("steering", policy.trace_steps, policy.trace_steps)
    strength, loss, written = best
    before, after = (as_texts(model.source.tokenizer, rows, first) for rows in (plain, written))
    return Steered(strength, before, after, (plain_loss, loss))
