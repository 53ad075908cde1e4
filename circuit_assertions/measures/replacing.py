"""Ablation within a pass: each replacement is formed once and each set ablated once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from circuit_assertions.engine import Pass
from circuit_assertions.engine.passes import knocked_out
from circuit_assertions.measures.head_sets import HeadSet

__all__ = ["whole_and_without", "without"]


@torch.no_grad()
def whole_and_without(taken: Pass, sets: Sequence[HeadSet], ablation: str) -> Tensor:
    """Logit difference of the whole model, then with the heads of each set ablated together [prompts, 1 + sets]."""
    assert taken.patching is not None
    new = [heads for heads in dict.fromkeys(sets) if (ablation, heads) not in taken.ablated]
    if new:
        left = taken.patching.ablated([sorted(heads) for heads in new], _replacement(taken, ablation))
        taken.ablated.update({(ablation, heads): row for heads, row in zip(new, left, strict=True)})
    return torch.stack((taken.patching.difference, *(taken.ablated[ablation, heads] for heads in sets)), dim=1)


def without(taken: Pass, heads: HeadSet) -> Pass:
    """The same prompts while these heads are knocked out by their mean over the template's counterfactuals."""
    if heads not in taken.behind:
        taken.behind[heads] = knocked_out(taken, heads, _replacement(taken, "mean"))
    return taken.behind[heads]


def _replacement(taken: Pass, ablation: str) -> list[Tensor]:
    """What ablated heads put out instead, a layer each [prompts, positions, heads, d_head]."""
    assert taken.patching is not None
    if ablation == "resample":
        return taken.patching.other.head_outputs
    if ablation not in taken.replacements:
        form = torch.zeros_like if ablation == "zero" else _MeansByTemplate(taken)
        taken.replacements[ablation] = [form(z) for z in taken.patching.other.head_outputs]
    return taken.replacements[ablation]


class _MeansByTemplate:
    """Each prompt's value replaced by the mean over the prompts of its template. Batches hold whole templates."""

    def __init__(self, taken: Pass) -> None:
        names = {name: row for row, name in enumerate(dict.fromkeys(prompt.template for prompt in taken.prompts))}
        self.templates = len(names)
        self.group = torch.tensor([names[prompt.template] for prompt in taken.prompts], device=taken.model.device)

    def __call__(self, values: Tensor) -> Tensor:
        sums = torch.zeros(self.templates, *values.shape[1:], dtype=values.dtype, device=values.device)
        counts = torch.bincount(self.group, minlength=self.templates).to(values.dtype).view(-1, 1, 1, 1)
        return (sums.index_add(0, self.group, values) / counts)[self.group]
