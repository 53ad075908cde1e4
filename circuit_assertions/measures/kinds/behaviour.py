"""Behaviour: what the model answers. One value per prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuit_assertions.measures.declaring import ANSWERS, OLSSON, WANG, Asked, measure
from circuit_assertions.measures.operands import Operands

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Pass

__all__ = ["answer_rate", "logit_difference", "loss", "probability"]


@measure(
    "logit-difference",
    kind="model",
    unit="logits",
    help="logit of the right answer minus logit of the wrong one, at `end`",
    source=f"{WANG}, section 2",
    needs=ANSWERS,
    wants=("target_logits",),
)
def logit_difference(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """logit(right) - logit(wrong) at `end` [prompts]."""
    return _difference(taken)


@measure(
    "answer-rate",
    kind="model",
    unit="share of prompts",
    help="how often the right answer's logit is above the wrong one's, at `end`",
    source=f"{WANG}, section 2",
    needs=ANSWERS,
    wants=("target_logits",),
    hits=True,
    lowest=0,
    highest=1,
)
def answer_rate(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """1 where the right answer's logit is above the wrong one's, 0 elsewhere [prompts]; a tie counts as wrong."""
    import torch

    difference = _difference(taken)
    # NaN > 0 is False: without this a broken model would read as one that answers wrongly.
    return torch.where(torch.isfinite(difference), (difference > 0).to(difference.dtype), difference)


@measure(
    "probability",
    kind="model",
    unit="probability",
    help="probability of the right next token; mean over the repetition for repeated tokens",
    source=f"{WANG}, section 2",
    needs=frozenset({"target"}),
    wants=("target_logits",),
    lowest=0,
    highest=1,
)
def probability(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """Probability of the right next tokens, mean over each prompt's targets [prompts]."""
    return _target_log_probabilities(taken).exp().mean(dim=1)


@measure(
    "loss",
    kind="model",
    unit="nats",
    help="cross-entropy of the right next token; mean over the repetition for repeated tokens",
    source=f"{OLSSON}, in-context learning",
    needs=frozenset({"target"}),
    wants=("target_logits",),
    lowest=0,
)
def loss(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """Cross-entropy of the right next tokens in nats, mean over each prompt's targets [prompts]."""
    return -_target_log_probabilities(taken).mean(dim=1)


def _difference(taken: Pass) -> Tensor:
    last = _target_logits(taken)[:, -1]  # [prompts, d_vocab]
    right = taken.tokens_of(lambda prompt: prompt.right)
    wrong = taken.tokens_of(lambda prompt: prompt.wrong)
    return (last.gather(1, right[:, None]) - last.gather(1, wrong[:, None])).squeeze(1)


def _target_log_probabilities(taken: Pass) -> Tensor:
    import torch

    logits = _target_logits(taken)
    wide = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    tokens = torch.tensor([[token for _, token in prompt.targets] for prompt in taken.prompts], device=logits.device)
    chosen = wide.gather(2, tokens[:, :, None]).squeeze(2)  # [prompts, targets]
    return chosen - wide.logsumexp(dim=2)


def _target_logits(taken: Pass) -> Tensor:
    assert taken.target_logits is not None
    return taken.target_logits
