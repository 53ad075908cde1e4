"""Heads that put out a mixture of their own output and the counterfactual's, with gradients for the mixture's weights.

What desiderata-based component masking learns by (Davies et al. 2023, arXiv 2307.03637; Prakash et al. 2024, arXiv
2402.14811, section 5). Everything after a head is live.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.engine.layout import UNEMBED_INPUT
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.work import add_passes
from circuit_assertions.tasks import END, Prompt

__all__ = ["masked_metric", "outputs_of_counterfactuals"]


@torch.no_grad()
def outputs_of_counterfactuals(model: Model, prompts: Sequence[Prompt]) -> list[Tensor]:
    """What heads put out on the counterfactuals of prompts of equal length, a layer each.

    Returns:
        For each layer [prompts, positions, heads, d_head].
    """
    kept: list[Tensor] = []

    def keep(value: Tensor, hook: Any) -> None:
        kept.append(value.detach().to(model.device))  # a model may lie on several devices

    tokens = torch.tensor([prompt.counterfactual for prompt in prompts], device=model.device)
    layout = model.layout
    hooks: list[tuple[str, Any]] = [(layout.head_outputs(layer), keep) for layer in range(layout.layers)]
    add_passes(len(prompts))
    model.bridge.run_with_hooks(tokens, fwd_hooks=[(UNEMBED_INPUT, lambda value, hook: value[:, :1]), *hooks])
    return kept


def masked_metric(model: Model, prompts: Sequence[Prompt], other: Sequence[Tensor], kept: Tensor) -> Tensor:
    """The answer metric with each head's output mixed, at every position [prompts]; differentiable by `kept`.

    Args:
        prompts: of equal length.
        other: `outputs_of_counterfactuals`.
        kept: how much of its own output each head puts out, 0 to 1; the rest is the counterfactual's [layers, heads].
    """
    finals: list[Tensor] = []

    def keep(value: Tensor, hook: Any) -> Tensor:
        finals.append(value)
        return value

    def mixing(layer: int) -> Any:
        def mix(value: Tensor, hook: Any) -> Tensor:
            share = kept[layer].to(value)[:, None]  # [heads, 1]
            return share * value + (1 - share) * other[layer].to(value)

        return mix

    tokens = torch.tensor([prompt.tokens for prompt in prompts], device=model.device)
    layout = model.layout
    hooks: list[tuple[str, Any]] = [(UNEMBED_INPUT, lambda value, hook: value[:, :1]), (layout.final_residual, keep)]
    hooks += [(layout.head_outputs(layer), mixing(layer)) for layer in range(layout.layers)]
    add_passes(len(prompts))
    model.bridge.run_with_hooks(tokens, fwd_hooks=hooks)
    final = finals[-1].to(model.device)  # some models norm their embeddings with the same module
    rows = torch.arange(len(prompts), device=final.device)
    ends = torch.tensor([prompt.positions[END] for prompt in prompts], device=final.device)
    return model.readout.difference(final[rows, ends], prompts)
