"""Causal effects on the logit difference, exactly, for many senders or sets at once (Wang et al. 2022, appendix B).

Every effect is signed so that positive means *pushes towards the right answer*: how much of the logit difference is
lost when the counterfactual's value is put into the clean run, or gained when the clean one is put into the twin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from circuit_assertions.components import Mlp
from circuit_assertions.engine.arithmetic import Block, Projection, recognise
from circuit_assertions.engine.cache import capture_both
from circuit_assertions.engine.live import Change, Live, Point
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.pair import Direction, Pair
from circuit_assertions.engine.rows import Frozen, Rows, Sender
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END, Prompt

__all__ = ["Direction", "Patching"]

_Item = TypeVar("_Item")

_BUDGET = 512 << 20  # bytes that the rows or variants of one piece may take


@dataclass(frozen=True)
class Patching(Pair):
    """Patching by arithmetic. `blocks` is the arithmetic of every block, recognised on the clean run."""

    blocks: list[Block] = field(default_factory=list)

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model, prompts: Sequence[Prompt]) -> Patching:
        """Run clean prompts and counterfactual twins once each.

        Raises:
            NotRecognisedError: if the model's blocks are not computed in a way that is known here.
        """
        clean, twins = capture_both(model, prompts)
        return cls(model, tuple(prompts), clean, twins, blocks=recognise(model.layout, clean))

    @torch.no_grad()
    def to_logits(self, senders: Sequence[Sender], semantics: Frozen) -> Tensor:
        """Path effects of senders on the logits at `end` [senders, prompts]."""
        end = self.positions(END)[:, None]
        *_, (_, below, rows) = self._rows(end).entering(senders, semantics)
        return self._in_order(senders, below, self.effect_of(rows[:, :, 0]))

    @torch.no_grad()
    def to_inputs(
        self, senders: Sequence[Sender], which: Projection, receivers: Sequence[Head], at: str, semantics: Frozen
    ) -> Tensor:
        """Path effects of senders through the queries, keys or values of receivers at a position [senders, prompts].

        Everything after the receivers is live. Keys and values belong to a receiver alone even where heads share them
        in groups; name every head of a group to patch the group.

        Raises:
            MeasuringError: if the model has no such receiver.
        """
        self.check_receivers(receivers)
        place = self.positions(at)
        layers = sorted({head.layer for head in receivers})
        taps: dict[int, tuple[list[Sender], Tensor]] = {}
        for layer, below, rows in self._rows(place[:, None]).entering(senders, semantics):
            if layer in layers and below:
                taps[layer] = (below, self._project(layer, which, rows[:, :, 0]))
        effects = torch.zeros(len(senders), len(self.prompts), dtype=self.base.final.dtype, device=place.device)
        active = [sender for sender in senders if any(sender in below for below, _ in taps.values())]
        first = int(place.min())
        for some in self._pieces(active, first):
            changes: dict[tuple[int, Point], Change] = {
                (layer, which): self._put_tapped(receivers, taps[layer], some, layer, place - first) for layer in taps
            }
            final = Live(self.blocks, self.base, layers[0], first, len(some), changes).final()
            effects[[senders.index(sender) for sender in some]] = self.effect_of(self.at_end(final, first))
        return effects

    @torch.no_grad()
    def total(self, senders: Sequence[Sender], at: str | None = None) -> Tensor:
        """Effects of putting senders' own outputs of the other run in, everything after them live [senders, prompts].

        Args:
            at: a position; None for all of them.
        """
        effects = torch.zeros(len(senders), len(self.prompts), dtype=self.base.final.dtype, device=self.model.device)
        for layer in sorted({sender.layer for sender in senders}):
            own = [sender for sender in senders if sender.layer == layer]
            for some in self._pieces(own, 0):
                final = Live(self.blocks, self.base, layer, 0, len(some), self._outputs(layer, some, at)).final()
                effects[[senders.index(sender) for sender in some]] = self.effect_of(self.at_end(final))
        return effects

    @torch.no_grad()
    def ablated(self, sets: Sequence[Sequence[Head]], replacement: Sequence[Tensor]) -> Tensor:
        """Logit difference with the heads of each set replaced together [sets, prompts].

        Args:
            replacement: a layer each, what to put in the place of head outputs [prompts, positions, heads, d_head].
        """
        differences = self.difference.expand(len(sets), -1).clone()
        lowest = {number: min(head.layer for head in heads) for number, heads in enumerate(sets) if heads}
        for start in sorted(set(lowest.values())):  # sets that begin in one layer share all that lies below it
            for some in self._pieces([number for number, layer in lowest.items() if layer == start], 0):
                changes: dict[tuple[int, Point], Change] = {
                    (layer, "z"): _put_heads([_of_layer(sets[number], layer) for number in some], replacement[layer])
                    for layer in sorted({head.layer for number in some for head in sets[number]})
                }
                final = Live(self.blocks, self.base, start, 0, len(some), changes).final()
                differences[some] = self.difference_of(self.at_end(final))
        return differences

    def _rows(self, at: Tensor) -> Rows:
        width = self.model.layout.d_model
        return Rows(self.blocks, self.base, self.other, at, max(1, _BUDGET // (4 * 16 * width)))

    def _pieces(self, items: Sequence[_Item], first: int) -> Iterator[list[_Item]]:
        """Variants in pieces that fit the budget."""
        layout, length = self.model.layout, self.base.positions
        suffix = length - first
        each = suffix * (12 * layout.d_model + layout.heads * length) + 4 * length * layout.d_model
        size = max(1, _BUDGET // (4 * each * len(self.prompts)))
        for start in range(0, len(items), size):
            yield list(items[start : start + size])

    def _project(self, layer: int, which: Projection, rows: Tensor) -> Tensor:
        """Rows [senders, prompts, d_model] projected, for each query head [senders, prompts, heads, d_head]."""
        block = self.blocks[layer]
        projected = block.project(which, block.normed(rows))
        return projected if which == "q" else block.for_each_query_head(projected)

    def _put_tapped(
        self,
        receivers: Sequence[Head],
        tapped: tuple[list[Sender], Tensor],
        some: Sequence[Sender],
        layer: int,
        place: Tensor,
    ) -> Change:
        """Give the receivers of a layer what was tapped for each of some senders; senders above keep the live value."""
        below, values = tapped
        heads = torch.tensor([head.head for head in receivers if head.layer == layer], device=place.device)
        prompts = torch.arange(len(self.prompts), device=place.device)[:, None]
        rows = [row for row, sender in enumerate(some) if sender in below]
        source = [below.index(some[row]) for row in rows]

        def change(live: Tensor) -> Tensor:
            put = live.clone()  # [senders, prompts, suffix, heads, d_head]
            for row, index in zip(rows, source, strict=True):
                put[row][prompts, place[:, None], heads] = values[index][:, heads]
            return put

        return change

    def _outputs(self, layer: int, some: Sequence[Sender], at: str | None) -> dict[tuple[int, Point], Change]:
        """Put some senders' outputs of the other run in, one a variant."""
        heads = [[sender.head] if isinstance(sender, Head) else [] for sender in some]
        places = None if at is None else self.positions(at)
        changes: dict[tuple[int, Point], Change] = {}
        if any(heads):
            changes[layer, "z"] = _put_heads(heads, self.other.head_outputs[layer], places)
        mlps = [row for row, sender in enumerate(some) if isinstance(sender, Mlp)]
        if mlps:
            changes[layer, "mlp"] = _put_rows(mlps, self.other.mlp_writes[layer], places)
        return changes

    @staticmethod
    def _in_order(senders: Sequence[Sender], below: list[Sender], effects: Tensor) -> Tensor:
        return effects[[below.index(sender) for sender in senders]]


def _of_layer(heads: Sequence[Head], layer: int) -> list[int]:
    return [head.head for head in heads if head.layer == layer]


def _put_heads(heads: Sequence[Sequence[int]], values: Tensor, places: Tensor | None = None) -> Change:
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


def _put_rows(variants: Sequence[int], values: Tensor, places: Tensor | None) -> Change:
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
