"""What variants of a run are given in the place of their live values: changes for `Live`, one variant an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from circuit_assertions.engine.live import Change

__all__ = ["put_heads", "put_inputs", "put_patterns", "put_rows"]


def put_heads(heads: Sequence[Sequence[int]], values: Tensor, places: Tensor | None = None) -> Change:
    """In variant n put values [prompts, positions, heads, d_head] in for heads[n], at places [prompts] or all."""

    def change(live: Tensor) -> Tensor:
        put = live.clone()  # [variants, prompts, positions, heads, d_head]
        prompts = torch.arange(values.shape[0], device=values.device)
        for row, chosen in enumerate(heads):
            for head in chosen:
                if places is None:
                    put[row, :, :, head] = values[:, :, head]
                else:
                    put[row][prompts, places, head] = values[prompts, places, head]
        return put

    return change


def put_inputs(given: Mapping[int, Tensor], heads: Tensor, places: Tensor) -> Change:
    """In some variants, by number, put queries, keys or values [prompts, heads, d_head] in for some heads, at places.

    Args:
        heads: their indices in the block [heads].
        places: one position a prompt [prompts].
    """

    def change(live: Tensor) -> Tensor:
        put = live.clone()  # [variants, prompts, positions, heads, d_head]
        prompts = torch.arange(len(places), device=places.device)[:, None]
        for variant, values in given.items():
            put[variant][prompts, places[:, None], heads] = values[:, heads]
        return put

    return change


def put_patterns(heads: Sequence[Sequence[int]], patterns: Tensor, places: Tensor | None = None) -> Change:
    """In variant n put patterns [prompts, heads, queries, keys] in for heads[n], of queries at places or of all."""
    put = put_heads(heads, patterns.transpose(1, 2), places)
    return lambda live: put(live.transpose(-3, -2)).transpose(-3, -2)


def put_rows(variants: Sequence[int], values: Tensor, places: Tensor | None) -> Change:
    """In some variants put `values` [prompts, positions, d_model] in, at `places` [prompts] or everywhere."""

    def change(live: Tensor) -> Tensor:
        put = live.clone()  # [variants, prompts, positions, d_model]
        prompts = torch.arange(values.shape[0], device=values.device)
        for row in variants:
            if places is None:
                put[row] = values
            else:
                put[row][prompts, places] = values[prompts, places]
        return put

    return change
