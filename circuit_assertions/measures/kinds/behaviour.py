"""Behaviour: what the model answers. One value per prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuit_assertions.measures.declaring import ANSWERS, OLSSON, WANG, Asked, measure
from circuit_assertions.measures.operands import Operands
from circuit_assertions.tasks import END, METRICS, AnswerMetric

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Pass

__all__ = ["answer_rate", "logit_difference", "logit_margin", "loss", "probability", "probability_difference"]


@measure(
    "logit-difference",
    kind="model",
    unit="logits",
    help="logit of the right answer minus logit of the wrong one, at `end`; of sets of answers, weighted means",
    source=f"{WANG}, section 2",
    needs=ANSWERS,
    wants=("target_logits",),
    metric="logit-difference",
)
def logit_difference(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """logit(right) - logit(wrong) at `end` [prompts], whatever the task's own metric."""
    return _answered(taken, METRICS["logit-difference"])


@measure(
    "logit-margin",
    kind="model",
    unit="logits",
    help="logit of the right answer minus the largest logit of the wrong ones, at `end`: above 0 where the right one "
    "is the first among the answers",
    source="Prakash et al. 2024, arXiv 2402.14811, section 3 (accuracy among the boxes)",
    needs=ANSWERS,
    wants=("target_logits",),
    metric="logit-margin",
)
def logit_margin(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """logit(right) - max logit(wrong) at `end` [prompts], whatever the task's own metric."""
    return _answered(taken, METRICS["logit-margin"])


@measure(
    "probability-difference",
    kind="model",
    unit="probability",
    help="probability of the right answers minus probability of the wrong ones, at `end`; weighted sums",
    source="Hanna et al. 2023, arXiv 2305.00586",
    needs=ANSWERS,
    wants=("target_logits",),
    lowest=-1,
    highest=1,
    metric="probability-difference",
)
def probability_difference(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """p(right) - p(wrong) at `end` [prompts], whatever the task's own metric."""
    return _answered(taken, METRICS["probability-difference"])


@measure(
    "answer-rate",
    kind="model",
    unit="share of prompts",
    help="how often the right answer's logit is above the wrong one's, at `end`; of sets of answers, how often the "
    "task's answer metric is above 0",
    source=f"{WANG}, section 2",
    needs=ANSWERS,
    wants=("target_logits",),
    hits=True,
    lowest=0,
    highest=1,
)
def answer_rate(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """1 where the task's answer metric is above 0, 0 elsewhere [prompts]; a tie counts as wrong."""
    import torch

    difference = _answered(taken, taken.prompts[0].metric)
    # NaN > 0 is False: without this a broken model would read as one that answers wrongly.
    return torch.where(torch.isfinite(difference), (difference > 0).to(difference.dtype), difference)


@measure(
    "probability",
    kind="model",
    unit="probability",
    help="probability of the right next token, or of any of several; mean over the repetition for repeated tokens",
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
    help="cross-entropy of the right next token, or of any of several; mean over the repetition for repeated tokens",
    source=f"{OLSSON}, in-context learning",
    needs=frozenset({"target"}),
    wants=("target_logits",),
    lowest=0,
)
def loss(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """Cross-entropy of the right next tokens in nats, mean over each prompt's targets [prompts]."""
    return -_target_log_probabilities(taken).mean(dim=1)


def _answered(taken: Pass, metric: AnswerMetric) -> Tensor:
    """A metric of the answers at `end` [prompts]."""
    import torch

    from circuit_assertions.engine.readout import SaidInFull

    logits = _target_logits(taken)
    columns = [prompt.read_at.index(prompt.positions[END]) for prompt in taken.prompts]
    said = SaidInFull(logits[torch.arange(len(columns)), columns])
    return metric.of(said, [prompt.right for prompt in taken.prompts], [prompt.wrong for prompt in taken.prompts])


def _target_log_probabilities(taken: Pass) -> Tensor:
    """Log-probability that one of a target's tokens comes next [prompts, targets]."""
    import torch

    from circuit_assertions.engine.readout import unrounded

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
