"""What heads do at one position when one of their inputs is changed and everything else stays: no pass follows.

A receiver whose own attention or own output is asked for needs one softmax over the keys of its layer, and nothing of
what comes after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_assertions.engine.arithmetic import Block, Projection
from circuit_assertions.engine.cache import Run

__all__ = ["Look"]


@dataclass(frozen=True)
class Look:
    """Some heads of one block, looking from one position of a run.

    Attributes:
        heads: their indices in the block [heads].
        at: the position that each prompt's heads look from [prompts].
    """

    block: Block
    run: Run
    heads: Tensor
    at: Tensor

    def pattern(self, which: Projection, changed: Tensor, place: Tensor) -> Tensor:
        """Attention from `at` to every position with queries or keys changed [variants, prompts, heads, positions].

        Args:
            changed: queries (at `at`) or keys of each query head, before norm and rotation
                [variants, prompts, heads of the block, d_head].
            place: where they stand in each prompt [prompts].
        """
        block, residual = self.block, self.run.residual[self.block.layer]
        normed = block.normed(residual)  # [prompts, positions, d_model]
        queries = block.project("q", self._at(normed, self.at)[None])  # [1, prompts, heads of the block, d_head]
        if which == "q":
            queries = self._put(queries, changed)
        queries = block.placed("q", queries, self._rotary(self.at))[..., self.heads, :]
        keys = block.placed("k", block.project("k", normed), self.run.rotary.get(block.layer))
        keys = block.for_each_query_head(keys)[None, :, :, self.heads]  # [1, prompts, positions, heads, d_head]
        if which == "k":
            single = block.for_each_query_head(block.project("k", self._at(normed, place)[None]))
            single = block.placed("k", self._put(single, changed), self._rotary(place))[..., self.heads, :]
            keys = keys.repeat(len(changed), 1, 1, 1, 1)
            keys[:, self._prompts, place] = single
        return self._attend(queries, keys)

    def output(self, which: Projection, changed: Tensor, place: Tensor) -> Tensor:
        """The heads' outputs at `at` with queries, keys or values changed [variants, prompts, heads, d_head].

        Args:
            changed, place: as `pattern` takes them.
        """
        block, layer = self.block, self.block.layer
        normed = block.normed(self.run.residual[layer])
        if which == "v":
            before = block.for_each_query_head(block.project("v", self._at(normed, place)))
            moved = block.placed("v", changed, None) - block.placed("v", before, None)
            paid = self.run.patterns[layer][self._prompts, :, self.at, place][:, self.heads]  # [prompts, heads]
            unchanged = self._at(self.run.head_outputs[layer], self.at)[:, self.heads]  # [prompts, heads, d_head]
            return unchanged + paid[..., None] * moved[:, :, self.heads]
        values = block.for_each_query_head(block.placed("v", block.project("v", normed), None))[:, :, self.heads]
        return torch.einsum("vphk,pkhd->vphd", self.pattern(which, changed, place), values)

    @property
    def _prompts(self) -> Tensor:
        return torch.arange(len(self.at), device=self.at.device)

    def _at(self, value: Tensor, place: Tensor) -> Tensor:
        """Values [prompts, positions, ...] at one place of each prompt [prompts, ...]."""
        return value[self._prompts, place]

    def _rotary(self, place: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosine and sine at one place of each prompt [prompts, rotated]."""
        if self.block.layer not in self.run.rotary:
            return None
        cosine, sine = (part.expand(len(place), -1, -1) for part in self.run.rotary[self.block.layer])
        return self._at(cosine, place), self._at(sine, place)

    def _put(self, unchanged: Tensor, changed: Tensor) -> Tensor:
        """All heads' inputs [1, prompts, heads of the block, d_head], those of these heads changed."""
        put = unchanged.repeat(len(changed), 1, 1, 1)
        put[:, :, self.heads] = changed[:, :, self.heads]
        return put

    def _attend(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Attention of one query a prompt [..., prompts, heads, d_head] -> [variants, prompts, heads, positions]."""
        variants = max(len(queries), len(keys))
        paid = keys.new_empty(variants, len(self.at), len(self.heads), keys.shape[2])
        for place in sorted(set(self.at.tolist())):  # a block masks by position: prompts that look from one go together
            rows = self.at == place
            paid[:, rows] = self.block.pattern(queries[:, rows, None], keys[:, rows], place)[..., 0, :]
        return paid
