"""Where things are in a `TransformerBridge`: its hook names, its weights by head, its norms.

Everything else uses layers and heads; this file alone knows what TransformerLens calls them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.nn import Identity, Module

from circuit_assertions.engine.latent_attention import is_latent, shape_latent_attention
from circuit_assertions.heads import Head

__all__ = ["UNEMBED_INPUT", "Layout"]

UNEMBED_INPUT = "unembed.hook_in"


@dataclass(frozen=True)
class Layout:
    """The structural facts of one model, and its weights head by head."""

    bridge: Any
    _d_heads: dict[int, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for block in self.bridge.blocks:
            shape_latent_attention(getattr(block, "attn", None), self.heads)

    @cached_property
    def hooks(self) -> frozenset[str]:
        """The names of all hooks that there are."""
        return frozenset(self.bridge.hook_dict)

    @cached_property
    def layers(self) -> int:
        """Number of blocks."""
        return int(self.bridge.cfg.n_layers)

    @cached_property
    def heads(self) -> int:
        """Query heads in each block."""
        return int(self.bridge.cfg.n_heads)

    @cached_property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.bridge.cfg.d_model)

    @cached_property
    def positions(self) -> int:
        """Tokens that the model can read at once."""
        return int(self.bridge.cfg.n_ctx)

    @cached_property
    def vocabulary(self) -> int:
        """Rows of the unembedding."""
        return int(self.bridge.cfg.d_vocab)

    def d_head(self, layer: int) -> int:
        """Width of a head's queries, keys and values."""
        if layer not in self._d_heads:  # the bridge puts the weights by head together each time that they are asked for
            attention = self.bridge.blocks[layer].attn
            self._d_heads[layer] = int(self.W_O(layer).shape[1] if is_latent(attention) else attention.W_V.shape[-1])
        return self._d_heads[layer]

    def groups(self, layer: int) -> int:
        """How many key-value heads a block has; its query heads share them in groups."""
        attention = self.bridge.blocks[layer].attn
        return self.heads if is_latent(attention) else int(attention.W_V.shape[0])

    def all_heads(self) -> Iterator[Head]:
        """Every query head, layer by layer."""
        return (Head(layer, head) for layer in range(self.layers) for head in range(self.heads))

    @staticmethod
    def pattern(layer: int) -> str:
        """Hook of the attention pattern [prompts, heads, query positions, key positions]."""
        return f"blocks.{layer}.attn.hook_pattern"

    @staticmethod
    def head_outputs(layer: int) -> str:
        """Hook of what the heads hand to the output projection [prompts, positions, heads, d_head]."""
        return f"blocks.{layer}.attn.hook_z"

    def attention_output(self, layer: int) -> str:
        """Hook of the output projection's result before any post-norm or scale [prompts, positions, d_model].

        What leaves the attention block itself has the residual stream added in some models (Bloom).
        """
        projected = f"blocks.{layer}.attn.o.hook_out"
        return projected if projected in self.hooks else f"blocks.{layer}.attn.hook_out"

    @staticmethod
    def attention_write(layer: int) -> str:
        """Hook of what attention adds to the residual stream [prompts, positions, d_model]."""
        return f"blocks.{layer}.hook_attn_out"

    @staticmethod
    def mlp_write(layer: int) -> str:
        """Hook of what the MLP adds to the residual stream [prompts, positions, d_model]."""
        return f"blocks.{layer}.hook_mlp_out"

    @staticmethod
    def mlp_input(layer: int) -> str:
        """Hook of what the MLP reads, after its norm [prompts, positions, d_model]."""
        return f"blocks.{layer}.mlp.hook_in"

    @staticmethod
    def rotary(layer: int) -> tuple[str, str]:
        """Hooks of cosine and sine of the rotary embedding [1, positions, rotated dimensions]."""
        return f"blocks.{layer}.attn.hook_cos", f"blocks.{layer}.attn.hook_sin"

    def rotary_table(self, layer: int) -> Tensor | None:
        """Sines, then cosines, that GPT-J looks up instead [positions, rotated dimensions]."""
        attention = self.bridge.blocks[layer].attn
        table: Tensor | None = getattr(getattr(attention, "original_component", attention), "embed_positions", None)
        return table

    def clamped(self, layer: int, projected: Tensor) -> Tensor:
        """Queries, keys or values clamped as the block itself declares (OLMo, MPT)."""
        attention = self.bridge.blocks[layer].attn
        attention = getattr(attention, "original_component", attention)
        # MPT's attention says 0 for no limit; OLMo's configuration says nothing then.
        said = getattr(attention, "clip_qkv", None) or getattr(getattr(attention, "config", None), "clip_qkv", None)
        return projected if said is None else projected.clamp(-said, said)

    @staticmethod
    def projected(layer: int, which: str) -> str:
        """Hook of queries, keys or values (`q`, `k`, `v`) before norm and rotation [prompts, positions, n, d_head]."""
        return f"blocks.{layer}.attn.hook_{which}"

    @staticmethod
    def residual_before(layer: int) -> str:
        """Hook of the residual stream entering a block [prompts, positions, d_model]."""
        return f"blocks.{layer}.hook_in"

    @staticmethod
    def residual_after(layer: int) -> str:
        """Hook of the residual stream leaving a block [prompts, positions, d_model]."""
        return f"blocks.{layer}.hook_out"

    @property
    def final_residual(self) -> str:
        """Hook of the residual stream before the final norm; without one, of what leaves the last block."""
        return self.residual_after(self.layers - 1) if self.final_norm is None else "ln_final.hook_in"

    @property
    def final_norm(self) -> Any | None:
        """The norm before the unembedding, where there is one (not in post-norm OPT)."""
        norm = getattr(self.bridge, "ln_final", None)
        return None if getattr(norm, "original_component", None) is None else norm

    def W_O(self, layer: int) -> Tensor:
        """Output projection by head [heads, d_head, d_model]."""
        attention = self.bridge.blocks[layer].attn
        if is_latent(attention):
            weight: Tensor = attention.o.original_component.weight  # [d_model, heads * d_head]
            return weight.T.reshape(self.heads, -1, weight.shape[0])
        weights: Tensor = attention.W_O
        return weights

    def b_O(self, layer: int) -> Tensor | None:
        """Bias of the output projection [d_model]."""
        attention = self.bridge.blocks[layer].attn
        bias: Tensor | None = attention.o.original_component.bias if is_latent(attention) else attention.b_O
        return bias

    def projection_weights(self, layer: int, which: str) -> Tensor:
        """Weights of queries, keys or values (`q`, `k`, `v`) [heads or key-value heads, d_model, d_head]."""
        weights: Tensor = getattr(self.bridge.blocks[layer].attn, f"W_{which.upper()}")
        return weights

    def has_value_weights(self, layer: int) -> bool:
        """Whether heads, or groups of them, have weights for their values of their own."""
        return not is_latent(self.bridge.blocks[layer].attn)

    def value_weights(self, head: Head) -> tuple[Tensor, Tensor | None]:
        """W_V [d_model, d_head] and b_V [d_head] of a head; under grouped-query attention its group's."""
        attention = self.bridge.blocks[head.layer].attn
        weights: Tensor = attention.W_V  # [key-value heads, d_model, d_head]
        bias: Tensor | None = attention.b_V
        group = head.head // (self.heads // weights.shape[0])
        return weights[group], None if bias is None else bias[group]

    def attention_norm(self, layer: int) -> Any:
        """The norm before attention; where there is none (OLMo 2), heads read the residual stream as it is."""
        norm = getattr(self.bridge.blocks[layer], "ln1", None)
        return Identity() if norm is None else norm

    def attention_post_norm(self, layer: int) -> Any | None:
        """What the attention block's output goes through before it is added, where there is something.

        A norm (Gemma 2 and 3) or a factor (Granite).
        """
        return self._before_it_is_added(layer, "ln1_post")

    def mlp_post_norm(self, layer: int) -> Any | None:
        """The same of the MLP's output."""
        return self._before_it_is_added(layer, "ln2_post")

    def _before_it_is_added(self, layer: int, name: str) -> Any | None:
        block = self.bridge.blocks[layer]
        norm, factor = getattr(block, name, None), float(getattr(block, "residual_contribution_scale", 1.0))
        return norm if factor == 1.0 or norm is not None else _Scaled(factor)


class _Scaled(Module):
    """Rows times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, rows: Tensor) -> Tensor:
        """The rows, scaled."""
        return rows * self.factor
