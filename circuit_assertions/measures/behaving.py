"""Behaviour: what the model answers. One value per prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from circuit_assertions.engine import Pass
from circuit_assertions.engine.readout import SaidInFull, unrounded
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END, METRICS, AnswerMetric

__all__ = ["answer_metric", "answer_rate", "loss", "probability"]


def answer_metric(name: str) -> Callable[[Pass, Sequence[Head], Mapping[str, str]], Tensor]:
    """What reads right and wrong answers at `end` by the metric of this name, whatever the task's own [prompts]."""

    def read(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
        return _answered(taken, METRICS[name])

    return read


def answer_rate(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """1 where the task's answer metric is above 0, 0 elsewhere [prompts]; a tie counts as wrong."""
    difference = _answered(taken, taken.prompts[0].metric)
    # NaN > 0 is False: without this a broken model would read as one that answers wrongly.
    return torch.where(torch.isfinite(difference), (difference > 0).to(difference.dtype), difference)


def loss(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """Cross-entropy of the right next tokens in nats, mean over each prompt's targets [prompts]."""
    return -_target_log_probabilities(taken).mean(dim=1)


def probability(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """Probability of the right next tokens, mean over each prompt's targets [prompts]."""
    return _target_log_probabilities(taken).exp().mean(dim=1)


def _answered(taken: Pass, metric: AnswerMetric) -> Tensor:
    """A metric of the answers at `end` [prompts]."""
    logits = _target_logits(taken)
    columns = [prompt.read_at.index(prompt.positions[END]) for prompt in taken.prompts]
    said = SaidInFull(logits[torch.arange(len(columns)), columns])
    return metric.of(said, [prompt.right for prompt in taken.prompts], [prompt.wrong for prompt in taken.prompts])


def _target_log_probabilities(taken: Pass) -> Tensor:
    """Log-probability that one of a target's tokens comes next [prompts, targets]."""
    targets = [prompt.alternatives for prompt in taken.prompts]
    logits = unrounded(_target_logits(taken))[:, : len(targets[0])]  # `end` may be read beside the targets
    most = max(len(tokens) for places in targets for tokens in places)
    padded = [[[*tokens, *[-1] * (most - len(tokens))] for tokens in places] for places in targets]
    tokens = torch.tensor(padded, device=logits.device)  # [prompts, targets, tokens]
    chosen = logits.gather(2, tokens.clamp(min=0)).masked_fill(tokens < 0, -torch.inf)
    return chosen.logsumexp(dim=2) - logits.logsumexp(dim=2)


def _target_logits(taken: Pass) -> Tensor:
    assert taken.target_logits is not None
    return taken.target_logits
