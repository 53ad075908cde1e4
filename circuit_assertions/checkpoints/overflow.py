"""What is wrong with the numbers of a model in memory: overflow in its layers, matrices of zeros."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["first_overflow", "zero_notes"]

_PIECE = 1 << 20  # elements looked at together


@torch.no_grad()
def first_overflow(model: Any, tokens: Tensor) -> str:
    """The first layer that gives infinity or NaN for these tokens; the model itself where no layer does alone."""
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            if not found and not _is_finite(output):
                found.append(name)

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in model.named_modules() if name]
    try:
        model(tokens, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else type(model).__name__


def zero_notes(model: Any) -> list[str]:
    """A note if there are weight matrices in which every element is zero."""
    zeros = [
        name
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and parameter.numel() and not _has_any(parameter.detach())
    ]
    if len(zeros) > 1:
        return [f"{len(zeros)} weight matrices are all zeros, {zeros[0]} among them"]
    return [f"the weight matrix {zeros[0]} is all zeros"] if zeros else []


def _has_any(tensor: Tensor) -> bool:
    return any(bool(piece.any()) for piece in torch.split(tensor.flatten(), _PIECE))


def _is_finite(output: Any) -> bool:
    if isinstance(output, Tensor):
        return not output.is_floating_point() or bool(torch.isfinite(output).all())
    if isinstance(output, dict):
        return all(_is_finite(one) for one in output.values())
    return all(_is_finite(one) for one in output) if isinstance(output, (tuple, list)) else True
