"""Knock-outs: what is lost without a set of heads, and what is left with it alone. One value a prompt."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_assertions.engine import Pass
from circuit_assertions.heads import Head

__all__ = ["ablation_effect", "faithfulness", "faithfulness_over_random", "over_random", "ratio_to_first"]

RANDOM_SETS = 10
Array = NDArray[np.float64]


def ablation_effect(taken: Pass, heads: Sequence[Head], operands: Mapping[str, Any]) -> Tensor:
    """Logit difference lost when the heads of the set are ablated together [prompts]."""
    assert taken.patching is not None
    (left,) = taken.patching.ablated([operands["set"]], _replacement(taken, operands["ablation"]))
    lost: Tensor = taken.patching.difference - left
    return lost


def faithfulness(taken: Pass, heads: Sequence[Head], operands: Mapping[str, Any]) -> Tensor:
    """Logit difference of the whole model and of the set alone [prompts, 2]; `ratio_to_first` makes a share of them."""
    return _alone(taken, [operands["set"]], operands)


def faithfulness_over_random(taken: Pass, heads: Sequence[Head], operands: Mapping[str, Any]) -> Tensor:
    """Logit difference of the whole model, of the set, and of random sets like it [prompts, 2 + sets]."""
    return _alone(taken, [operands["set"], *_random_sets(taken, operands["set"])], operands)


def ratio_to_first(columns: Array) -> Array:
    """Second column over the first, as a ratio of means [prompts].

    One value a prompt whose mean is the ratio and whose spread is the ratio's (its linearisation), so that intervals
    over prompts hold for it. A mean of ratios would be carried by prompts whose denominator is near zero.
    """
    whole, alone = columns[:, 0], columns[:, 1]
    ratio = alone.mean() / whole.mean()
    shares: Array = ratio + (alone - ratio * whole) / whole.mean()
    return shares


def over_random(columns: Array) -> Array:
    """The second column's ratio to the first, less the mean of the further columns' ratios [prompts]."""
    own = ratio_to_first(columns[:, :2])
    others = [ratio_to_first(columns[:, [0, column]]) for column in range(2, columns.shape[1])]
    above: Array = own - np.mean(others, axis=0)
    return above


def _alone(taken: Pass, sets: Sequence[Sequence[Head]], operands: Mapping[str, Any]) -> Tensor:
    assert taken.patching is not None
    everyone = list(taken.model.layout.all_heads())
    outside = [[head for head in everyone if head not in set(kept)] for kept in sets]
    left = taken.patching.ablated(outside, _replacement(taken, operands["ablation"]))  # [sets, prompts]
    return torch.cat((taken.patching.difference[None], left)).T


def _random_sets(taken: Pass, like: Sequence[Head]) -> list[list[Head]]:
    """Sets with as many heads in each layer as this one, drawn from all heads of the layer."""
    rng = random.Random(0)
    layers = sorted({head.layer for head in like})
    counts = {layer: sum(head.layer == layer for head in like) for layer in layers}
    return [
        [Head(layer, index) for layer in layers for index in rng.sample(range(taken.model.layout.heads), counts[layer])]
        for _ in range(RANDOM_SETS)
    ]


def _replacement(taken: Pass, ablation: str) -> list[Tensor]:
    """What ablated heads put out instead, a layer each [prompts, positions, heads, d_head]."""
    assert taken.patching is not None
    if ablation == "resample":
        return taken.patching.other.head_outputs
    if ablation == "zero":
        return [torch.zeros_like(z) for z in taken.patching.other.head_outputs]
    return [_means_by_template(taken, z) for z in taken.patching.other.head_outputs]


def _means_by_template(taken: Pass, values: Tensor) -> Tensor:
    """Each prompt's value replaced by the mean over the prompts of its template. Batches hold whole templates."""
    names = {name: row for row, name in enumerate(dict.fromkeys(prompt.template for prompt in taken.prompts))}
    group = torch.tensor([names[prompt.template] for prompt in taken.prompts], device=values.device)
    sums = torch.zeros(len(names), *values.shape[1:], dtype=values.dtype, device=values.device)
    counts = torch.bincount(group, minlength=len(names)).to(values.dtype).view(-1, 1, 1, 1)
    return (sums.index_add(0, group, values) / counts)[group]
