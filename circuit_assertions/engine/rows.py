"""Patched residual rows with every other head frozen: path patching without attention (Wang et al. 2022, appendix B).

With attention frozen, positions decouple: what a sender's counterfactual output does at a position depends on that
position alone. So instead of one forward pass a sender, one residual row a sender, prompt and position moves up through
the MLPs, all rows of a layer in one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from circuit_assertions.components import Mlp
from circuit_assertions.engine.arithmetic import Block
from circuit_assertions.engine.cache import Run
from circuit_assertions.heads import Head

__all__ = ["Frozen", "Rows", "Sender"]

Frozen = Literal["through-mlps", "direct"]


Sender = Head | Mlp


@dataclass(frozen=True)
class Rows:
    """Moves senders' patched rows up through the blocks.

    Attributes:
        clean: the run that is patched, and `other` the run that the senders' outputs are taken from.
        at: the positions that are followed [prompts, places].
        most: rows that go through an MLP together; bounds the memory, changes nothing else.
    """

    blocks: Sequence[Block]
    clean: Run
    other: Run
    at: Tensor
    most: int

    def entering(self, senders: Sequence[Sender], semantics: Frozen) -> Iterator[tuple[int, list[Sender], Tensor]]:
        """For each layer, and once more for the end: the senders below it and their rows entering it.

        `through-mlps`: all other heads keep their clean output, MLPs and norms are live. `direct`: MLPs too keep their
        clean output.

        Yields:
            layer, senders, rows [senders, prompts, places, d_model]; the last layer is the number of blocks, and its
            rows are the final residual stream.
        """
        below: list[Sender] = []
        rows = self.clean.final.new_empty(0, *self.at.shape, self.clean.final.shape[-1])
        for layer, block in enumerate(self.blocks):
            yield layer, below, rows
            heads = [sender for sender in senders if isinstance(sender, Head) and sender.layer == layer]
            rows = self._through(block, rows, heads, semantics)
            below = [*below, *heads]
            if any(isinstance(sender, Mlp) and sender.layer == layer for sender in senders):
                rows = torch.cat((rows, self._after_patched_mlp(layer)[None]))
                below = [*below, Mlp(layer)]
        yield len(self.blocks), below, rows

    def place(self, value: Tensor) -> Tensor:
        """Values [prompts, positions, ...] at the followed positions [prompts, places, ...]."""
        prompts = torch.arange(value.shape[0], device=value.device)[:, None]
        return value[prompts, self.at]

    def _through(self, block: Block, rows: Tensor, heads: list[Head], semantics: Frozen) -> Tensor:
        layer = block.layer
        entering = self.place(self.clean.residual[layer])  # [prompts, places, d_model]
        write = self.place(self.clean.attention_writes[layer])
        before = torch.cat((rows, entering.expand(len(heads), *entering.shape)))  # [senders, prompts, places, d_model]
        writes = torch.cat((write.expand_as(rows), self._patched_writes(block, heads)))
        if semantics == "direct":
            return before + writes + self.place(self.clean.mlp_writes[layer])
        after = before.new_empty(before.shape)  # contiguous, so that its flattened form is a view
        flat = (before.flatten(0, 2), writes.flatten(0, 2), after.flatten(0, 2))
        for piece in zip(*(torch.split(part, self.most) for part in flat), strict=True):
            piece[2].copy_(block.after(piece[0], piece[1]))
        return after

    def _patched_writes(self, block: Block, heads: list[Head]) -> Tensor:
        """What the attention block adds when one head's output is the other run's [heads, prompts, places, d_model]."""
        layer = block.layer
        change = self.place(self.other.head_outputs[layer]) - self.place(self.clean.head_outputs[layer])
        indices = torch.tensor([head.head for head in heads], device=change.device, dtype=torch.long)
        weights = block.layout.W_O(layer)[indices]  # [heads, d_head, d_model]
        changed = torch.einsum("bphd,hdm->hbpm", change[:, :, indices], weights.to(change.dtype))
        return block.attention_write(self.place(self.clean.attention_outputs[layer]) + changed)

    def _after_patched_mlp(self, layer: int) -> Tensor:
        """The residual stream leaving a block whose MLP alone wrote what it wrote in the other run."""
        following = self.clean.residual[layer + 1] if layer + 1 < len(self.blocks) else self.clean.final
        changed = self.other.mlp_writes[layer] - self.clean.mlp_writes[layer]
        return self.place(following + changed)
