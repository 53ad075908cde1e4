"""Attention: which positions heads attend to. One value per prompt and head."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from circuit_assertions.measures.declaring import OLSSON, WANG, Asked, measure
from circuit_assertions.measures.operands import FromTo, KnockOut, Operands

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Pass

__all__ = ["attention", "duplicate_token_score", "induction_score", "previous_token_score"]


class Looking(KnockOut, FromTo):
    """Where heads attend, while others may be knocked out."""


@measure(
    "attention",
    kind="head",
    operands=Looking,
    unit="share of attention",
    help="attention of the head from the position `query` to the position `key`",
    source=f"{WANG}, section 3",
    needs=frozenset({"positions"}),
    relies_on=("patterns",),
    wants=("patterns",),
    lowest=0,
    highest=1,
)
def attention(taken: Pass, asked: Asked[Looking]) -> Tensor:
    """Attention from the position `query` to the position `key` [prompts, heads]."""
    import torch

    rows = torch.arange(len(taken.prompts), device=taken.model.device)
    query, key = taken.positions(asked.operands.query), taken.positions(asked.operands.key)
    return torch.stack([taken.patterns[layer][rows, head, query, key] for layer, head in asked.components], dim=1)


@measure(
    "previous-token-score",
    kind="head",
    unit="share of attention",
    help="mean attention from each repeated token to the one before it",
    source=f"{WANG}, appendix on random tokens",
    needs=frozenset({"repeat"}),
    relies_on=("patterns",),
    wants=("patterns",),
    lowest=0,
    highest=1,
)
def previous_token_score(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """Mean attention A[i, i - 1] over the repeated tokens i [prompts, heads]."""
    return _mean_attention_back(taken, asked, lambda period: 1)


@measure(
    "duplicate-token-score",
    kind="head",
    unit="share of attention",
    help="mean attention from each repeated token to its earlier occurrence",
    source=f"{WANG}, appendix on random tokens",
    needs=frozenset({"repeat"}),
    relies_on=("patterns",),
    wants=("patterns",),
    lowest=0,
    highest=1,
)
def duplicate_token_score(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """Mean attention A[i, i - period], to the same token, over the repeated tokens i [prompts, heads]."""
    return _mean_attention_back(taken, asked, lambda period: period)


@measure(
    "induction-score",
    kind="head",
    unit="share of attention",
    help="mean attention from each repeated token to the one after its earlier occurrence",
    source=f"{OLSSON}, prefix matching; {WANG}, appendix on random tokens",
    needs=frozenset({"repeat"}),
    relies_on=("patterns",),
    wants=("patterns",),
    lowest=0,
    highest=1,
)
def induction_score(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """Mean attention A[i, i - period + 1], to the token after the same token, over the repeated tokens i."""
    return _mean_attention_back(taken, asked, lambda period: period - 1)


def _mean_attention_back(taken: Pass, asked: Asked[Operands], offset: Callable[[int], int]) -> Tensor:
    import torch

    # Prompts of one length from one task share start and period.
    assert taken.prompts[0].repeat is not None
    start, period = taken.prompts[0].repeat
    back = offset(period)
    diagonals = [
        taken.patterns[layer][:, head].diagonal(offset=-back, dim1=1, dim2=2)[:, start + period - back :]
        for layer, head in asked.components
    ]  # each [prompts, period]: the entries A[i, i - back] for i in the second half
    return torch.stack([diagonal.mean(dim=1) for diagonal in diagonals], dim=1)
