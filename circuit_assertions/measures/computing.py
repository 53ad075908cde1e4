"""How each measure is computed from what a pass showed. One function a measure, found by the measure's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from circuit_assertions.engine import Pass, Wanted
from circuit_assertions.measures import (
    attending,
    attributing,
    behaving,
    completeness,
    copying,
    curves,
    effects,
    gaps,
    knockouts,
    minimality,
)
from circuit_assertions.measures.shares import Array
from circuit_assertions.measures.sweeping import KNOCKOUT, NOTHING, Prepared, Sweep

__all__ = ["COMPUTED", "Computation"]

Operands = Mapping[str, Any]


@dataclass(frozen=True)
class Computation:
    """What a measure wants from a pass, and how it computes its values from it.

    `values` gives [prompts], or [prompts, heads] for the heads that were asked for, in their order. A measure that can
    only be formed once all prompts are there gives columns of its own [prompts, columns], of which `finish` makes what
    is read, and `beside` what is shown beside it, each [prompts]. A measure that must search before it is read says
    how in `prepare`; what it found is among the operands of all that follows.
    """

    wanted: Wanted
    values: Callable[[Pass, Sequence[Any], Operands], Tensor]
    finish: Callable[[Array, Operands], Array] = lambda columns, operands: columns
    beside: Callable[[Array, Operands], Mapping[str, Array]] = lambda columns, operands: {}
    prepare: Callable[[Sweep, Sequence[Any], Operands], Prepared] = lambda sweep, heads, operands: NOTHING


_PATTERNS = Wanted(patterns=True)
_LOGITS = Wanted(target_logits=True)
_BLOCK_0 = Wanted(after_block_0=True)

COMPUTED: dict[str, Computation] = {
    "logit-difference": Computation(_LOGITS, behaving.answer_metric("logit-difference")),
    "probability-difference": Computation(_LOGITS, behaving.answer_metric("probability-difference")),
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
    "pattern-effect": Computation(Wanted(patching=True), effects.pattern_effect),
    "attention-effect": Computation(Wanted(patching=True), effects.attention_effect),
    "write-effect": Computation(Wanted(patching=True), effects.write_effect),
    "edge-score": Computation(Wanted(patching=True), attributing.edge_score),
    "ablation-effect": Computation(KNOCKOUT, knockouts.ablation_effect),
    "faithfulness": Computation(KNOCKOUT, knockouts.faithfulness, knockouts.ratio_to_first),
    "faithfulness-over-random": Computation(
        KNOCKOUT, knockouts.faithfulness_over_random, knockouts.over_random, knockouts.faithfulness_parts
    ),
    "incompleteness": Computation(KNOCKOUT, gaps.both_ways, completeness.incompleteness, prepare=completeness.search),
    "incompleteness-over-random": Computation(
        KNOCKOUT,
        gaps.both_ways,
        completeness.incompleteness_over_random,
        completeness.incompleteness_parts,
        completeness.search_random_too,
    ),
    "minimality": Computation(KNOCKOUT, gaps.both_ways, minimality.minimality, prepare=minimality.search),
    "minimality-over-random": Computation(
        KNOCKOUT,
        gaps.both_ways,
        minimality.minimality_over_random,
        minimality.minimality_parts,
        minimality.search_random_too,
    ),
    "circuit-performance-ratio": Computation(
        KNOCKOUT, curves.circuits_by_size, curves.performance_ratio, prepare=curves.rank
    ),
    "circuit-performance-ratio-over-random": Computation(
        KNOCKOUT,
        curves.circuits_by_size,
        curves.performance_ratio_over_random,
        curves.performance_ratio_parts,
        curves.rank_random_too,
    ),
    "circuit-model-distance": Computation(
        KNOCKOUT, curves.circuits_by_size, curves.model_distance, prepare=curves.rank
    ),
    "circuit-model-distance-over-random": Computation(
        KNOCKOUT,
        curves.circuits_by_size,
        curves.model_distance_over_random,
        curves.model_distance_parts,
        curves.rank_random_too,
    ),
}
