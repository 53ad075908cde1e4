"""Attention: which positions heads attend to. One value per prompt and head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from circuit_assertions.engine import Pass
from circuit_assertions.heads import Head

__all__ = ["attention", "duplicate_token_score", "induction_score", "previous_token_score"]


def attention(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """Attention from the position `query` to the position `key` [prompts, heads]."""
    rows = torch.arange(len(taken.prompts), device=taken.model.device)
    query, key = taken.positions(operands["query"]), taken.positions(operands["key"])
    return torch.stack([taken.patterns[layer][rows, head, query, key] for layer, head in heads], dim=1)


def previous_token_score(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """Mean attention A[i, i - 1] over the repeated tokens i [prompts, heads]."""
    return _mean_attention_back(taken, heads, lambda period: 1)


def duplicate_token_score(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """Mean attention A[i, i - period], to the same token, over the repeated tokens i [prompts, heads]."""
    return _mean_attention_back(taken, heads, lambda period: period)


def induction_score(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """Mean attention A[i, i - period + 1], to the token after the same token, over the repeated tokens i."""
    return _mean_attention_back(taken, heads, lambda period: period - 1)


def _mean_attention_back(taken: Pass, heads: Sequence[Head], offset: Callable[[int], int]) -> Tensor:
    # Prompts of one length from one task share start and period.
    assert taken.prompts[0].repeat is not None
    start, period = taken.prompts[0].repeat
    back = offset(period)
    diagonals = [
        taken.patterns[layer][:, head].diagonal(offset=-back, dim1=1, dim2=2)[:, start + period - back :]
        for layer, head in heads
    ]  # each [prompts, period]: the entries A[i, i - back] for i in the second half
    return torch.stack([diagonal.mean(dim=1) for diagonal in diagonals], dim=1)
