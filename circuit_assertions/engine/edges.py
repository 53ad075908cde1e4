"""The edges of a model: which component's write reaches which component's reading of the residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from circuit_assertions.components import Mlp, Residual
from circuit_assertions.engine.arithmetic import Block, Projection
from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.layout import Layout
from circuit_assertions.heads import Head

__all__ = ["EdgeGraph", "EdgeReceiver", "EdgeSender", "Input"]


class Input(NamedTuple):
    """The queries (`q`) of a head, or the keys (`k`) or values (`v`) that a group of heads shares."""

    which: Projection
    heads: tuple[Head, ...]

    @property
    def layer(self) -> int:
        """The block that reads."""
        return self.heads[0].layer


EdgeSender = Head | Mlp | Residual  # of the residual streams only RESID0, the embedding
EdgeReceiver = Input | Mlp | Literal["logits"]


@dataclass(frozen=True)
class EdgeGraph:
    """Senders and receivers in the order in which the model computes them."""

    layout: Layout
    blocks: Sequence[Block]

    @cached_property
    def senders(self) -> tuple[EdgeSender, ...]:
        """The embedding, then each layer's heads and its MLP."""
        found: list[EdgeSender] = [Residual(0)]
        for layer in range(self.layout.layers):
            found += [*(Head(layer, head) for head in range(self.layout.heads)), Mlp(layer)]
        return tuple(found)

    @cached_property
    def receivers(self) -> tuple[EdgeReceiver, ...]:
        """Each layer's queries, keys, values and MLP, then the logits."""
        found: list[EdgeReceiver] = []
        for layer in range(self.layout.layers):
            everyone = [Head(layer, head) for head in range(self.layout.heads)]
            for which in ("q", "k", "v"):
                found += self.inputs(which, everyone)
            found.append(Mlp(layer))
        return (*found, "logits")

    def inputs(self, which: Projection, heads: Sequence[Head]) -> list[Input]:
        """The inputs through which these heads get their queries, keys or values.

        Raises:
            MeasuringError: if some, but not all, heads of a group are named.
        """
        found = []
        for layer in sorted({head.layer for head in heads}):
            share = 1 if which == "q" else self.layout.heads // self.layout.groups(layer)
            for group in sorted({head.head // share for head in heads if head.layer == layer}):
                members = tuple(Head(layer, head) for head in range(group * share, (group + 1) * share))
                if not set(members) <= set(heads):
                    raise MeasuringError(
                        f"heads of layer {layer} share their keys and values in groups of {share}: "
                        f"name all heads of a group as receivers of an edge"
                    )
                found.append(Input(which, members))
        return found

    def below(self, receiver: EdgeReceiver) -> int:
        """How many senders, in their order, can reach a receiver."""
        if isinstance(receiver, str):
            return len(self.senders)
        heads = self.layout.heads
        after_own_heads = isinstance(receiver, Mlp) and self.blocks[receiver.layer].reads == "middle"
        return 1 + receiver.layer * (heads + 1) + (heads if after_own_heads else 0)
