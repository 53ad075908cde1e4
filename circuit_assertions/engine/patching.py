"""Causal effects on the logit difference, exactly, for many senders or sets at once (Wang et al. 2022, appendix B).

Every effect is signed so that positive means *favours the right answer*: how much of the logit difference is lost when
the counterfactual's value is put into the clean run, or gained when the clean one is put into the counterfactual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch import Tensor

from circuit_assertions.components import Component, Mlp, Residual
from circuit_assertions.engine.ablating import Ablated, alike_together
from circuit_assertions.engine.arithmetic import Block, Projection
from circuit_assertions.engine.cache import capture_both
from circuit_assertions.engine.changes import put_heads, put_inputs, put_patterns, put_rows
from circuit_assertions.engine.half_precision import widened
from circuit_assertions.engine.live import Change, Live, Point
from circuit_assertions.engine.local import Look
from circuit_assertions.engine.memory import Attempt, budget, in_pieces
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.pair import Direction, Pair
from circuit_assertions.engine.recognition import recognise
from circuit_assertions.engine.rows import Frozen, Rows, Sender, by_lowest_receiver
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END, Prompt

__all__ = ["Direction", "Patching"]

_Item = TypeVar("_Item")
_Placed = TypeVar("_Placed", bound=Component)


@dataclass(frozen=True)
class Patching(Pair):
    """Patching by arithmetic. `blocks` is the arithmetic of every block, recognised on the clean run."""

    blocks: list[Block] = field(default_factory=list)

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model, prompts: Sequence[Prompt]) -> Patching:
        """Run clean prompts and counterfactuals once each.

        Raises:
            NotRecognisedError: if the model's blocks are not computed in a way that is supported.
        """
        clean, twins = capture_both(model, prompts)
        blocks = recognise(model.layout, clean)
        return cls(model, tuple(prompts), widened(blocks, clean), widened(blocks, twins), blocks=blocks)

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
        taps = self._tapped(senders, which, receivers, place, semantics)
        effects, first = self._nothing(senders), self.start(at)
        if first is None:
            return effects
        for start, reaching in by_lowest_receiver(senders, taps).items():
            for some, fits in self._pieces(reaching, first):
                with fits:
                    changes: dict[tuple[int, Point], Change] = {
                        (layer, which): self._put_tapped(receivers, taps[layer], some, layer, place - first)
                        for layer in taps
                        if layer >= start
                    }
                    rows = Live(self.blocks, self.base, start, first, len(some), changes).final_at(self.places(END))
                    effects[[senders.index(sender) for sender in some]] = self.effect_of(rows)
        return effects

    @torch.no_grad()
    def to_attention(
        self,
        senders: Sequence[Sender],
        which: Literal["q", "k"],
        receivers: Sequence[Head],
        query: str,
        key: str,
        semantics: Frozen,
    ) -> Tensor:
        """Attention of receivers from `query` to `key` that depends on paths from senders [senders, prompts].

        The paths end at the receivers' queries at `query`, or at their keys at `key`, each receiver's own. The mean
        over receivers, as a share of attention; positive where the clean run pays more.

        Raises:
            MeasuringError: if the model has no such receiver.
        """
        self.check_receivers(receivers)
        place, seen = self.positions(query if which == "q" else key), self.positions(key)
        prompts = torch.arange(len(self.prompts), device=place.device)
        lost = self._nothing(senders)
        for layer, (below, values) in self._tapped(senders, which, receivers, place, semantics).items():
            look = self._look(receivers, layer, query)
            paid = self.base.patterns[layer][prompts, :, look.at, seen][:, look.heads]  # [prompts, heads]
            for some, fits in self._pieces(range(len(below)), 0):
                with fits:
                    left = look.pattern(which, values[some], place)[:, prompts, :, seen]  # [prompts, variants, heads]
                    lost[[senders.index(below[row]) for row in some]] += (paid[:, None] - left).sum(dim=-1).T
        return self.signed(lost / len(receivers))

    @torch.no_grad()
    def to_writes(
        self, senders: Sequence[Sender], which: Projection, receivers: Sequence[Head], at: str, semantics: Frozen
    ) -> Tensor:
        """Effects of senders on what receivers write directly into the logit difference at `end` [senders, prompts].

        The paths end at the receivers' queries, keys or values at a position, each receiver's own. What the receivers
        then put out at `end` goes into the final residual stream, for all of them together, everything between as it
        was; the final norm is recomputed.

        Raises:
            MeasuringError: if the model has no such receiver, or queries elsewhere than at `end` are to receive.
        """
        self.check_receivers(receivers)
        self.check_reaches_end(which, at)
        place = self.positions(at)
        final = self.at_end(self.base.final).repeat(len(senders), 1, 1)  # [senders, prompts, d_model]
        for layer, (below, values) in self._tapped(senders, which, receivers, place, semantics).items():
            look = self._look(receivers, layer, END)
            for some, fits in self._pieces(range(len(below)), 0):
                with fits:
                    outputs = look.output(which, values[some], place)  # [variants, prompts, heads, d_head]
                    rows = [senders.index(below[row]) for row in some]
                    final[rows] += self.changed_write(layer, look.heads, outputs)
        return self.effect_of(final)

    @torch.no_grad()
    def total(self, senders: Sequence[Component], at: str | None = None) -> Tensor:
        """Effects of putting senders' own outputs of the other run in, everything after them live [senders, prompts].

        What a `Residual` puts out is the residual stream entering its block.

        Args:
            at: a position; None for all of them.
        """
        return self._replaced(senders, at, self._outputs)

    @torch.no_grad()
    def of_patterns(self, heads: Sequence[Head], at: str | None = None) -> Tensor:
        """Effects of putting heads' attention patterns of the other run in, their values live [heads, prompts].

        Args:
            at: the query position whose attention is put in; None for all of them.
        """

        def changes(
            layer: int, some: Sequence[Head], first: int, places: Tensor | None
        ) -> dict[tuple[int, Point], Change]:
            patterns = self.other.patterns[layer][:, :, first:]
            return {(layer, "pattern"): put_patterns([[head.head] for head in some], patterns, places)}

        return self._replaced(heads, at, changes)

    @torch.no_grad()
    def ablated(self, sets: Sequence[Sequence[Head]], replacement: Sequence[Tensor]) -> Tensor:
        """Logit difference with the heads of each set replaced together [sets, prompts].

        Args:
            replacement: a layer each, what to put in the place of head outputs [prompts, positions, heads, d_head].
        """
        differences = self.difference.expand(len(sets), -1).clone()
        for some, fits in self._pieces(alike_together(sets, len(self.blocks)), 0):
            with fits:
                start = min(head.layer for number in some for head in sets[number])
                runs = Ablated(self.blocks, self.base, start, 0, len(some))
                final = runs.final_without([sets[number] for number in some], replacement, self.positions(END))
                differences[some] = self.difference_of(final)
        return differences

    def _rows(self, at: Tensor) -> Rows:
        return Rows(self.blocks, self.base, self.other, at)

    def _pieces(self, items: Sequence[_Item], first: int) -> Iterator[tuple[list[_Item], Attempt]]:
        """Variants in pieces that fit the budget; what an MLP takes inside is planned where it is called."""
        layout, final = self.model.layout, self.base.final
        heads = layout.heads * max(layout.d_head(layer) for layer in range(layout.layers))
        # The rows, normed, summed and written; queries, keys, values and outputs before and after; scores and patterns.
        numbers = (self.base.positions - first) * (
            6 * layout.d_model + 8 * heads + 4 * layout.heads * self.base.positions
        )
        each = final.element_size() * numbers * len(self.prompts)
        for piece, fits in in_pieces(items, max(1, budget(final.device) // each)):
            yield list(piece), fits

    def _nothing(self, items: Sequence[object]) -> Tensor:
        """Effects of 0 [items, prompts]."""
        return self.base.final.new_zeros(len(items), len(self.prompts))

    def _tapped(
        self, senders: Sequence[Sender], which: Projection, receivers: Sequence[Head], place: Tensor, semantics: Frozen
    ) -> dict[int, tuple[list[Sender], Tensor]]:
        """What reaches the receivers' layers at `place` [prompts]: by layer, the senders below and what is projected.

        Layers without senders below them are left out. Projected: [senders, prompts, heads, d_head].
        """
        layers = {head.layer for head in receivers}
        taps: dict[int, tuple[list[Sender], Tensor]] = {}
        for layer, below, rows in self._rows(place[:, None]).entering(senders, semantics):
            if layer in layers and below:
                taps[layer] = (below, self._project(layer, which, rows[:, :, 0]))
            if layer == max(layers):
                break
        return taps

    def _look(self, receivers: Sequence[Head], layer: int, query: str) -> Look:
        """The receivers of a layer, looking from a position of the base run."""
        heads = torch.tensor(_of_layer(receivers, layer), device=self.model.device)
        return Look(self.blocks[layer], self.base, heads, self.positions(query))

    def _replaced(
        self,
        items: Sequence[_Placed],
        at: str | None,
        changes: Callable[[int, Sequence[_Placed], int, Tensor | None], dict[tuple[int, Point], Change]],
    ) -> Tensor:
        """Effects of one change an item, at a position or everywhere, everything after it live [items, prompts]."""
        effects, first = self._nothing(items), self.start(at)
        if first is None:
            return effects
        places = None if at is None else self.positions(at) - first
        for layer in sorted({item.layer for item in items}):
            for some, fits in self._pieces([item for item in items if item.layer == layer], first):
                with fits:
                    change = changes(layer, some, first, places)
                    rows = Live(self.blocks, self.base, layer, first, len(some), change).final_at(self.places(END))
                    effects[[items.index(item) for item in some]] = self.effect_of(rows)
        return effects

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
        given = {row: values[below.index(sender)] for row, sender in enumerate(some) if sender in below}
        return put_inputs(given, torch.tensor(_of_layer(receivers, layer), device=place.device), place)

    def _outputs(
        self, layer: int, some: Sequence[Component], first: int, places: Tensor | None
    ) -> dict[tuple[int, Point], Change]:
        """Put some components' outputs of the other run in, one a variant."""
        changes: dict[tuple[int, Point], Change] = {}
        heads = [[sender.head] if isinstance(sender, Head) else [] for sender in some]
        if any(heads):
            changes[layer, "z"] = put_heads(heads, self.other.head_outputs[layer][:, first:], places)
        mlps = [row for row, sender in enumerate(some) if isinstance(sender, Mlp)]
        if mlps:
            changes[layer, "mlp"] = put_rows(mlps, self.other.mlp_writes[layer][:, first:], places)
        streams = [row for row, sender in enumerate(some) if isinstance(sender, Residual)]
        if streams:
            changes[layer, "residual"] = put_rows(streams, self.other.residual[layer][:, first:], places)
        return changes

    @staticmethod
    def _in_order(senders: Sequence[Sender], below: list[Sender], effects: Tensor) -> Tensor:
        return effects[[below.index(sender) for sender in senders]]


def _of_layer(heads: Sequence[Head], layer: int) -> list[int]:
    return [head.head for head in heads if head.layer == layer]
