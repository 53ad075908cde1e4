"""Patched residual rows with every other head frozen: path patching without attention (Wang et al. 2022, appendix B).

With attention frozen, positions decouple: what a sender's counterfactual output does at a position depends on that
position alone. So instead of one forward pass per sender, one residual row per sender, prompt and position moves up
through the MLPs, all rows of a layer in one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from circuit_assertions.components import Mlp
from circuit_assertions.engine.arithmetic import Block
from circuit_assertions.engine.cache import Run
from circuit_assertions.engine.memory import in_pieces
from circuit_assertions.heads import Head

__all__ = ["Frozen", "Rows", "Sender", "by_lowest_receiver"]

Frozen = Literal["through-mlps", "direct"]


Sender = Head | Mlp


@dataclass(frozen=True)
class Rows:
    """Moves senders' patched rows up through the blocks.

    Attributes:
        clean: the run that is patched, and `other` the run that the senders' outputs are taken from.
        at: the positions that are followed [prompts, places].
    """

    blocks: Sequence[Block]
    clean: Run
    other: Run
    at: Tensor

    def entering(self, senders: Sequence[Sender], semantics: Frozen) -> Iterator[tuple[int, list[Sender], Tensor]]:
        """For each layer, and once more for the end: the senders below it and their rows entering it.

        `through-mlps`: all other heads keep their clean output, MLPs and norms are live. `direct`: MLPs too keep their
        clean output.

        Yields:
            layer, senders, rows [senders, prompts, places, d_model]; the last layer is the number of blocks, and its
            rows are the final residual stream. The same memory holds the rows of the next layer: use them at once.
        """
        below: list[Sender] = []
        rows = self.clean.final.new_empty(len(senders), *self.at.shape, self.clean.final.shape[-1])
        for layer, block in enumerate(self.blocks):
            yield layer, below, rows[: len(below)]
            self._move(block, rows[: len(below)], self.place(self.clean.attention_writes[layer])[None], semantics)
            heads = [sender for sender in senders if isinstance(sender, Head) and sender.layer == layer]
            if heads:
                patched = rows[len(below) : len(below) + len(heads)]
                patched.copy_(self.place(self.clean.residual[layer]))
                self._move(block, patched, self._patched_writes(block, heads), semantics)
            below = [*below, *heads]
            if any(isinstance(sender, Mlp) and sender.layer == layer for sender in senders):
                rows[len(below)] = self._after_patched_mlp(layer)
                below = [*below, Mlp(layer)]
        yield len(self.blocks), below, rows[: len(below)]

    def place(self, value: Tensor) -> Tensor:
        """Values [prompts, positions, ...] at the followed positions [prompts, places, ...]."""
        prompts = torch.arange(value.shape[0], device=value.device)[:, None]
        return value[prompts, self.at]

    def _move(self, block: Block, rows: Tensor, writes: Tensor, semantics: Frozen) -> None:
        """Move rows [senders, prompts, places, d_model] through a block in place.

        Args:
            writes: what attention adds to them, each sender's own or one for all [senders or 1, prompts, places,
                d_model].
        """
        if semantics == "direct":
            rows += writes + self.place(self.clean.mlp_writes[block.layer])
            return
        flat, added = rows.flatten(0, 2), writes.flatten(0, 2)  # [rows, d_model]
        for piece, fits in in_pieces(range(len(flat)), block.rows_together(flat)):
            at = torch.arange(piece[0], piece[-1] + 1, device=flat.device)
            own = flat[piece[0] : piece[-1] + 1]  # a view
            with fits:
                own.copy_(block.after(own, added[at % len(added)]))

    def _patched_writes(self, block: Block, heads: list[Head]) -> Tensor:
        """What the attention block adds when one head's output is the other run's [heads, prompts, places, d_model]."""
        layer = block.layer
        change = self.place(self.other.head_outputs[layer]) - self.place(self.clean.head_outputs[layer])
        indices = [head.head for head in heads]
        weights = block.layout.W_O(layer)[indices].to(change)  # [heads, d_head, d_model]
        changed = torch.einsum("bphd,hdm->hbpm", change[:, :, indices], weights)
        return block.attention_write(self.place(self.clean.attention_outputs[layer]) + changed)

    def _after_patched_mlp(self, layer: int) -> Tensor:
        """The residual stream leaving a block whose MLP alone wrote what it wrote in the other run."""
        following = self.clean.residual[layer + 1] if layer + 1 < len(self.blocks) else self.clean.final
        changed = self.other.mlp_writes[layer] - self.clean.mlp_writes[layer]
        return self.place(following + changed)


def by_lowest_receiver(
    senders: Sequence[Sender], taps: Mapping[int, tuple[list[Sender], Tensor]]
) -> dict[int, list[Sender]]:
    """Senders by the lowest receivers' layer that they lie below; those below none are left out."""
    reaching: dict[int, list[Sender]] = {}
    for sender in senders:
        layers = [layer for layer, (below, _) in taps.items() if sender in below]
        if layers:
            reaching.setdefault(min(layers), []).append(sender)
    return reaching
