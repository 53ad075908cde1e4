"""Behaviour: what the model answers. One value per prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from circuit_assertions.engine import Pass
from circuit_assertions.heads import Head

__all__ = ["answer_rate", "logit_difference", "loss", "probability"]


def logit_difference(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """logit(right) - logit(wrong) at `end` [prompts]."""
    last = _target_logits(taken)[:, -1]  # [prompts, d_vocab]
    right = taken.tokens_of(lambda prompt: prompt.right)
    wrong = taken.tokens_of(lambda prompt: prompt.wrong)
    return (last.gather(1, right[:, None]) - last.gather(1, wrong[:, None])).squeeze(1)


def answer_rate(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """1 where the right answer's logit is above the wrong one's, 0 elsewhere [prompts]; a tie counts as wrong."""
    difference = logit_difference(taken, heads, operands)
    # NaN > 0 is False: without this a broken model would read as one that answers wrongly.
    return torch.where(torch.isfinite(difference), (difference > 0).to(difference.dtype), difference)


def loss(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """Cross-entropy of the right next tokens in nats, mean over each prompt's targets [prompts]."""
    return -_target_log_probabilities(taken).mean(dim=1)


def probability(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """Probability of the right next tokens, mean over each prompt's targets [prompts]."""
    return _target_log_probabilities(taken).exp().mean(dim=1)


def _target_log_probabilities(taken: Pass) -> Tensor:
    logits = _target_logits(taken)
    wide = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    tokens = torch.tensor([[token for _, token in prompt.targets] for prompt in taken.prompts], device=logits.device)
    chosen = wide.gather(2, tokens[:, :, None]).squeeze(2)  # [prompts, targets]
    return chosen - wide.logsumexp(dim=2)


def _target_logits(taken: Pass) -> Tensor:
    assert taken.target_logits is not None
    return taken.target_logits
