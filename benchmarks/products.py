"""How many multiply-adds exact path patching cannot do without: the weights that each live row must meet.

Attention scores and norms are left out: on short prompts they are a few per cent of it. What is not live is not
counted: below the first receiver, before the first position that differs, and in the last block all but the keys and
values of rows that nothing else reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from circuit_assertions.engine import Model
from circuit_assertions.heads import Head

__all__ = ["Products"]


@dataclass(frozen=True)
class Products:
    """Counts for one model and one batch of prompts of equal length."""

    model: Model
    prompts: int
    positions: int

    def to_logits(self) -> float:
        """All heads' rows through the MLPs above them, one position a prompt."""
        return self._rows(self.model.layout.layers)

    def to_inputs(self, receivers: Sequence[Head], first: int) -> float:
        """All heads' rows up to the receivers, then the rest of a pass for each head below one of them.

        Args:
            first: the first position at which a receiver's input differs.
        """
        layers = sorted({head.layer for head in receivers})
        entered = [min(layer for layer in layers if layer > below) for below in range(layers[-1])]
        live = self.model.layout.heads * sum(self.live(layer, first) for layer in entered)
        return self._rows(layers[-1]) + live

    def live(self, layer: int, first: int) -> float:
        """One variant whose heads' outputs differ from this layer and position on."""
        layout = self.model.layout
        last, suffix = layout.layers - 1, self.positions - first
        outer = layout.d_model * layout.heads * layout.d_head(layer)  # queries, and as many for the output
        shared = 2 * layout.d_model * layout.groups(layer) * layout.d_head(layer)  # keys and values
        ends = outer + self._mlp(last)
        if layer == last:
            return self.prompts * ends
        between = sum(self._mlp(block) + 2 * outer + shared for block in range(layer + 1, last))
        return self.prompts * (suffix * (outer + self._mlp(layer) + between + shared) + outer + ends)

    def _rows(self, upto: int) -> float:
        layout = self.model.layout
        writes = upto * layout.heads * layout.d_head(0) * layout.d_model
        return self.prompts * (writes + sum(layout.heads * (layer + 1) * self._mlp(layer) for layer in range(upto)))

    def _mlp(self, layer: int) -> int:
        weights = self.model.bridge.blocks[layer].mlp.parameters()
        return sum(weight.numel() for weight in weights if weight.dim() == 2)
