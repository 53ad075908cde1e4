"""Answer metrics: how much a model favours the right answers over the wrong ones, as one number for each prompt.

A metric reads what a model says at `end`, after a whole forward pass or for patched rows of the final residual stream.
Effects are differences of the metric, in its unit. Torch is imported when a metric is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import AfterValidator, WithJsonSchema

from circuit_assertions.tasks.answers import Answers
from circuit_assertions.tasks.schema import closest

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "LOGIT_DIFFERENCE",
    "LOGIT_MARGIN",
    "METRICS",
    "PROBABILITY_DIFFERENCE",
    "AnswerMetric",
    "MetricName",
    "Said",
]


class Said(Protocol):
    """What a model says next, for some rows of the final residual stream [..., prompts, d_model]."""

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits of tokens [prompts, tokens] -> [..., prompts, tokens]."""

    def probabilities(self, tokens: Tensor) -> Tensor:
        """Probabilities of tokens [prompts, tokens] among the whole vocabulary -> [..., prompts, tokens]."""


@dataclass(frozen=True)
class AnswerMetric:
    """One number for each prompt, positive where the model favours the right answers.

    Attributes:
        name: as suites write it; the measure of this name reads it.
        called: the same in sentences.
        unit: of the metric, and so of all effects on it.
        help: one line.
        of: its values [..., prompts] for what a model says, and each prompt's right and wrong answers.
        lowest, highest: the smallest and the largest value; None without such a limit.
    """

    name: str
    called: str
    unit: str
    help: str
    of: Callable[[Said, Sequence[Answers], Sequence[Answers]], Tensor]
    lowest: float | None = None
    highest: float | None = None

    def in_its_unit(self, unit: str) -> str:
        """The unit of a measure, as catalogues have it for logit differences, where answers are read by this metric."""
        return unit.replace(LOGIT_DIFFERENCE.called, self.called).replace(LOGIT_DIFFERENCE.unit, self.unit)


def _logit_difference(said: Said, right: Sequence[Answers], wrong: Sequence[Answers]) -> Tensor:
    import torch

    (ours, our_weights), (others, other_weights) = _padded(right), _padded(wrong)
    logits = said.logits(torch.cat((ours, others), dim=1))  # [..., prompts, right + wrong]
    split = ours.shape[1]
    return _mean(logits[..., :split], our_weights) - _mean(logits[..., split:], other_weights)


def _logit_margin(said: Said, right: Sequence[Answers], wrong: Sequence[Answers]) -> Tensor:
    import torch

    (ours, our_weights), (others, _) = _padded(right), _padded(wrong)
    logits = said.logits(torch.cat((ours, others), dim=1))  # [..., prompts, right + wrong]
    split = ours.shape[1]
    return _mean(logits[..., :split], our_weights) - logits[..., split:].amax(dim=-1)


def _probability_difference(said: Said, right: Sequence[Answers], wrong: Sequence[Answers]) -> Tensor:
    import torch

    (ours, our_weights), (others, other_weights) = _padded(right), _padded(wrong)
    probabilities = said.probabilities(torch.cat((ours, others), dim=1))
    weights = torch.cat((our_weights, -other_weights), dim=1)
    difference: Tensor = (probabilities * _like(weights, probabilities)).sum(dim=-1)
    return difference


def _padded(answers: Sequence[Answers]) -> tuple[Tensor, Tensor]:
    """Tokens and weights [prompts, tokens]; a prompt with fewer has its first token again, with weight 0."""
    import torch

    most = max(len(one.tokens) for one in answers)
    missing = [most - len(one.tokens) for one in answers]
    tokens = [one.tokens + one.tokens[:1] * gap for one, gap in zip(answers, missing, strict=True)]
    weights = [one.weights + (0.0,) * gap for one, gap in zip(answers, missing, strict=True)]
    return torch.tensor(tokens), torch.tensor(weights, dtype=torch.float64)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean of values [..., prompts, tokens] over tokens."""
    if weights.shape[1] == 1:
        return values[..., 0]
    shares = _like(weights / weights.sum(dim=1, keepdim=True), values)
    mean: Tensor = (values * shares).sum(dim=-1)
    return mean


def _like(weights: Tensor, values: Tensor) -> Tensor:
    # Not both at once: a device may have no float64.
    return weights.to(values.dtype).to(values.device)


LOGIT_DIFFERENCE = AnswerMetric(
    "logit-difference",
    "logit difference",
    "logits",
    "weighted mean of the right answers' logits minus weighted mean of the wrong ones'",
    _logit_difference,
)
PROBABILITY_DIFFERENCE = AnswerMetric(
    "probability-difference",
    "probability difference",
    "probability",
    "weighted sum of the right answers' probabilities minus weighted sum of the wrong ones'",
    _probability_difference,
    lowest=-1,
    highest=1,
)
LOGIT_MARGIN = AnswerMetric(
    "logit-margin",
    "logit margin",
    "logits",
    "weighted mean of the right answers' logits minus the largest logit of the wrong ones, whatever their weights",
    _logit_margin,
)
METRICS: Mapping[str, AnswerMetric] = {
    metric.name: metric for metric in (LOGIT_DIFFERENCE, LOGIT_MARGIN, PROBABILITY_DIFFERENCE)
}


def _known(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}{closest(name, list(METRICS))}")
    return name


MetricName = Annotated[str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(METRICS)})]
