"""Answers that are weighted sets of tokens, compared slowly and obviously: one prompt, one token at a time.

Nothing of the project and nothing of TransformerLens computes here; the logits are those of Hugging Face's own model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from naive_patching import NaivePatching
from torch import Tensor

Sets = Sequence[tuple[Mapping[int, float], Mapping[int, float]]]  # right and wrong answers of each prompt, with weights


def compared(metric: str, logits: Tensor, right: Mapping[int, float], wrong: Mapping[int, float]) -> Tensor:
    """The answer metric of one prompt's logits at the last token [d_vocab]; a number that keeps its gradient."""
    read = logits if metric == "logit-difference" else torch.exp(logits) / torch.exp(logits).sum()
    sides = []
    for answers in (right, wrong):
        total = torch.zeros((), dtype=logits.dtype)
        for token, weight in answers.items():
            total = total + weight * read[token]
        sides.append(total / sum(answers.values()) if metric == "logit-difference" else total)
    return sides[0] - sides[1]


class NaiveSets(NaivePatching):
    """Patching by one forward pass each, of what a model says of sets of answers."""

    def __init__(self, model: Any, clean: Tensor, twins: Tensor, sets: Sets, metric: str) -> None:
        self.sets, self.metric = sets, metric
        nobody = torch.zeros(len(clean), dtype=torch.long)  # there is no single right answer
        super().__init__(model, clean, twins, nobody, nobody)

    def difference(self, logits: Tensor) -> Tensor:
        """The answer metric at the last token [prompts]."""
        rows = zip(logits[:, -1], self.sets, strict=True)
        return torch.stack([compared(self.metric, row, *sets) for row, sets in rows])
