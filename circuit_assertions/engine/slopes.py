"""What grafts would do, to first order: one backward pass for all of them. For choosing what to try, never for a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from circuit_assertions.components import Part
from circuit_assertions.engine.layout import FINAL_RESIDUAL, UNEMBED_INPUT
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.parts import parts_of
from circuit_assertions.tasks import END, Prompt, PromptSet

__all__ = ["slopes"]

_TOGETHER = 32  # prompts whose activations are kept for the way back


def slopes(into: Model, source: Model, prompts: PromptSet, parts: Sequence[Part]) -> dict[Part, float]:
    """About what each part of `source` would add to the mean logit difference of `into`: (theirs - ours) . gradient.

    Both models have one shape, and are left as they were.
    """
    weights = [weight for weight in into.layout.bridge.original_model.parameters() if weight.is_floating_point()]
    with _learning(weights):
        gradients = _gradients(into, prompts, weights)
    known = {weight.untyped_storage().data_ptr(): each for weight, each in zip(weights, gradients, strict=True)}
    ours, theirs = parts_of(into.layout), parts_of(source.layout)
    return {
        part: sum(
            float(((other.to(own) - own).float() * _alike(own, known, weights).float()).sum())
            for own, other in zip(ours[part], theirs[part], strict=True)
        )
        / len(prompts)
        for part in parts
    }


def _alike(view: Tensor, gradients: dict[int, Tensor], weights: Sequence[Parameter]) -> Tensor: ...
