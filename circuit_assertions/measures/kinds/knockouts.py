"""Knock-outs: what is lost without a set of heads, and what is left with it alone. One value per prompt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from circuit_assertions.heads import Head
from circuit_assertions.measures.ablations import SHARE, Ablated
from circuit_assertions.measures.declaring import CAUSAL, WANG, Asked, measure
from circuit_assertions.measures.head_sets import outside, random_sets
from circuit_assertions.measures.operands import OfASet
from circuit_assertions.measures.shares import Array, shares_of
from circuit_assertions.tasks import TO_PATCH

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Pass

__all__ = ["ablation_effect", "carries", "faithfulness", "faithfulness_over_random"]


@measure(
    "ablation-effect",
    kind="set",
    operands=Ablated,
    unit="logits",
    help="logit difference lost when all of these heads are ablated together, at every position: by the mean over "
    "the counterfactual prompts of the same template, by the prompt's own counterfactual (resample), or by zero",
    source=f"{WANG}, section 2 (knockouts)",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching", "whole_templates"),
    of_means=True,
)
def ablation_effect(taken: Pass, asked: Asked[Ablated]) -> Tensor:
    """Logit difference lost when the heads of the set are ablated together [prompts]."""
    from circuit_assertions.measures.replacing import whole_and_without

    whole, left = whole_and_without(taken, [frozenset(asked.operands.set)], asked.operands.ablation).T
    lost: Tensor = whole - left
    return lost


@measure(
    "carries",
    kind="set",
    operands=OfASet,
    unit="share of prompts",
    help="how often the answer becomes the one that the counterfactual brings, when all of these heads put out what "
    "they put out on the counterfactual, at every position: what the task's counterfactual changes is what they carry",
    source="Prakash et al. 2024, arXiv 2402.14811, section 5 (desiderata)",
    needs=TO_PATCH | {"moved-answer"},
    relies_on=CAUSAL,
    wants=("patching", "whole_templates"),
    hits=True,
    lowest=0,
    highest=1,
)
def carries(taken: Pass, asked: Asked[OfASet]) -> Tensor:
    """1 where the patched model prefers the answer of the counterfactual, 0 elsewhere [prompts]; a tie counts as 0."""
    import torch

    from circuit_assertions.measures.replacing import whole_and_without

    left = whole_and_without(taken, [frozenset(asked.operands.set)], "resample")[:, 1]
    return torch.where(torch.isfinite(left), (left < 0).to(left.dtype), left)


def _ratio_to_first(columns: Array, asked: Asked[Ablated]) -> Array:
    """Second column over the first, as a ratio of means [prompts]."""
    return shares_of(columns[:, 0], columns[:, 1:2])[:, 0]


@measure(
    "faithfulness",
    kind="set",
    operands=Ablated,
    unit=SHARE,
    help="logit difference of these heads alone, every other head ablated at every position, over that of the "
    "whole model (ratio of means); MLPs stay",
    source=f"{WANG}, section 4 (faithfulness; every position of a head is kept, not only the circuit's own)",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching", "whole_templates"),
    of_means=True,
    finish=_ratio_to_first,
)
def faithfulness(taken: Pass, asked: Asked[Ablated]) -> Tensor:
    """Logit difference of the whole model and of the set alone [prompts, 2]."""
    return _whole_and_alone(taken, [asked.operands.set], asked.operands.ablation)


def _over_random(columns: Array, asked: Asked[Ablated]) -> Array:
    """The second column's ratio to the first, less the mean of the further columns' ratios [prompts]."""
    own, random = _parts(columns, asked).values()
    above: Array = own - random
    return above


def _parts(columns: Array, asked: Asked[Ablated]) -> dict[str, Array]:
    """What `faithfulness-over-random` is the difference of, each [prompts]."""
    shares = shares_of(columns[:, 0], columns[:, 1:])  # [prompts, 1 + sets]
    return {"this circuit": shares[:, 0], "random circuits": shares[:, 1:].mean(axis=1)}


@measure(
    "faithfulness-over-random",
    kind="set",
    operands=Ablated,
    unit=SHARE,
    help="faithfulness of these heads minus that of random sets with as many heads in each layer (at most ten, seeded)",
    source="a control for faithfulness: sets matched in size and layers",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching", "whole_templates"),
    of_means=True,
    finish=_over_random,
    beside=_parts,
)
def faithfulness_over_random(taken: Pass, asked: Asked[Ablated]) -> Tensor:
    """Logit difference of the whole model, of the set, and of matched random sets [prompts, 2 + sets]."""
    sets = [asked.operands.set, *random_sets(taken.model, asked.operands.set)]
    return _whole_and_alone(taken, sets, asked.operands.ablation)


def _whole_and_alone(taken: Pass, sets: Sequence[Collection[Head]], ablation: str) -> Tensor:
    from circuit_assertions.measures.replacing import whole_and_without

    return whole_and_without(taken, [outside(taken.model, kept) for kept in sets], ablation)
