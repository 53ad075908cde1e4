"""How each measure is computed from what a pass showed. One function a measure, found by the measure's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from circuit_assertions.engine import Pass, Wanted
from circuit_assertions.heads import Head
from circuit_assertions.measures import attending, behaving, copying, effects, knockouts

__all__ = ["COMPUTED", "Computation"]

Array = NDArray[np.float64]
Operands = Mapping[str, Any]


@dataclass(frozen=True)
class Computation:
    """What a measure wants from a pass, and how it computes its values from it.

    `values` gives [prompts], or [prompts, heads] for the heads that were asked for, in their order. A measure that can
    only be formed once all prompts are there gives several `columns` [prompts, columns], and `finish` makes [prompts]
    of them.
    """

    wanted: Wanted
    values: Callable[[Pass, Sequence[Head], Operands], Tensor]
    columns: int = 1
    finish: Callable[[Array], Array] | None = None


_PATTERNS = Wanted(patterns=True)
_LOGITS = Wanted(target_logits=True)
_KNOCKOUT = Wanted(patching=True, whole_templates=True)
_BLOCK_0 = Wanted(after_block_0=True)

COMPUTED: dict[str, Computation] = {
    "logit-difference": Computation(_LOGITS, behaving.logit_difference),
    "answer-rate": Computation(_LOGITS, behaving.answer_rate),
    "probability": Computation(_LOGITS, behaving.probability),
    "loss": Computation(_LOGITS, behaving.loss),
    "attention": Computation(_PATTERNS, attending.attention),
    "previous-token-score": Computation(_PATTERNS, attending.previous_token_score),
    "duplicate-token-score": Computation(_PATTERNS, attending.duplicate_token_score),
    "induction-score": Computation(_PATTERNS, attending.induction_score),
    "copy-score": Computation(_BLOCK_0, copying.copy_score),
    "negative-copy-score": Computation(_BLOCK_0, copying.negative_copy_score),
    "direct-effect": Computation(Wanted(end_writes=True), effects.direct_effect),
    "path-effect": Computation(Wanted(patching=True), effects.path_effect),
    "total-effect": Computation(Wanted(patching=True), effects.total_effect),
    "ablation-effect": Computation(_KNOCKOUT, knockouts.ablation_effect),
    "faithfulness": Computation(_KNOCKOUT, knockouts.faithfulness, 2, knockouts.ratio_to_first),
    "faithfulness-over-random": Computation(
        _KNOCKOUT, knockouts.faithfulness_over_random, 2 + knockouts.RANDOM_SETS, knockouts.over_random
    ),
}
