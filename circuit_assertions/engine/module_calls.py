"""A model's own modules on rows that may lie on another device, or be kept more precisely, than their weights.

Small differences of large numbers are what effects are: where a model is opened in half precision, its matrix products
are taken in that, and everything between them (residual rows, norms, attention, logit differences) in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

__all__ = ["HALVES", "apply", "apply_norm"]

HALVES = (torch.bfloat16, torch.float16)


def apply(module: Any, rows: Tensor) -> Tensor:
    """What a module makes of rows [..., width], in its own dtype on its own device, converted to the rows'."""
    weight = _some_weight(module)
    if weight is None or (weight.device == rows.device and not _is_wider(rows, weight)):
        result = module(rows)
    else:
        result = module(rows.to(weight.device, weight.dtype if _is_wider(rows, weight) else rows.dtype))
    written: Tensor = result[0] if isinstance(result, tuple) else result
    return written.to(rows.device, rows.dtype)


def apply_norm(norm: Any | None, rows: Tensor) -> Tensor:
    """What a norm makes of rows [..., width], in the rows' dtype; rows themselves where there is no norm."""
    if norm is None:
        return rows
    weight = _some_weight(norm)
    if weight is None or (weight.device == rows.device and not _is_wider(rows, weight)):
        normed: Tensor = norm(rows)
        return normed
    widened = {name: own.to(rows.dtype) for name, own in norm.named_parameters()}
    normed = functional_call(norm, widened, (rows.to(weight.device),))
    return normed.to(rows.device)


def _some_weight(module: Any) -> Tensor | None:
    """A parameter of a module, its own if it has one: walking through the parts takes longer than most norms."""
    own = getattr(module, "weight", None)
    return own if isinstance(own, torch.nn.Parameter) else next(module.parameters(), None)


def _is_wider(rows: Tensor, weight: Tensor) -> bool:
    return weight.dtype in HALVES and rows.dtype not in HALVES
