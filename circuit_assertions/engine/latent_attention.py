"""Latent attention (DeepSeek), which TransformerLens hooks in shapes of its own, shown head by head like any other."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["is_latent", "shape_latent_attention"]


class _HeadsBehindPositions:
    """Queries, keys and values [prompts, heads, positions, d_head] as [prompts, positions, heads, d_head]."""

    def convert(self, input_value: Tensor, *full_context: Any) -> Tensor:
        """What a hook sees."""
        return input_value.transpose(1, 2)

    def revert(self, input_value: Tensor, *full_context: Any) -> Tensor:
        """What the model takes back."""
        return input_value.transpose(1, 2)


class _SplitByHead:
    """What is handed to the output projection [prompts, positions, heads * d_head], split by head."""

    def __init__(self, heads: int) -> None:
        self.heads = heads

    def convert(self, input_value: Tensor, *full_context: Any) -> Tensor:
        """What a hook sees."""
        return input_value.view(*input_value.shape[:-1], self.heads, -1)

    def revert(self, input_value: Tensor, *full_context: Any) -> Tensor:
        """What the model takes back."""
        return input_value.flatten(-2)


def is_latent(attention: Any) -> bool:
    """Whether queries, keys and values are made through a latent, so that no head has weights for them of its own."""
    return hasattr(attention, "hook_kv_latent")


def shape_latent_attention(attention: Any, heads: int) -> None:
    """Let the hooks of latent attention show one head after the other. Others show it already."""
    if not is_latent(attention):
        return
    attention.o.hook_in.hook_conversion = _SplitByHead(heads)
    for name in ("hook_q", "hook_k", "hook_v"):
        hook = getattr(attention, name, None)
        if hook is not None:
            hook.hook_conversion = _HeadsBehindPositions()
