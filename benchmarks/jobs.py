"""The jobs, each over all heads of a model on the same prompts, and the five-stage sweep that is made of them.

The sweep is the search of the IOI paper (Wang et al. 2022, section 3), from the logits back to the prompt:

1. heads -> logits: which heads write the answer (name movers);
2. heads -> queries at `end` of the three strongest: which heads control their attention (S-inhibition);
3. heads -> values at `subject-2` of stage 2's four strongest: their input (induction, duplicate-token);
4. heads -> keys, and -> values, at `after-subject-1` of stage 3's two strongest: what induction matches and copies;
5. heads -> values at `subject-1` of stage 4's two strongest (of its keys): the input of the previous-token heads.

Each stage's strongest heads are those of the largest mean effect, either way, in the band of layers in which the paper
found that class, as a share of the depth; so a model with random weights costs what a trained one does. Keys and
values are patched for whole groups where heads share them, which is what a loop of hooks can do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.machine import Taken
from benchmarks.products import Products
from benchmarks.sides import LensCall, PlainLoop
from circuit_assertions.engine.arithmetic import Projection
from circuit_assertions.engine.patching import Patching
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END

__all__ = ["Job", "Jobs"]

_SETS = 20
_TWELFTHS = {1: (9, 11), 2: (7, 9), 3: (5, 7), 4: (2, 5)}  # of the depth: where the paper's heads of a stage lie


@dataclass(frozen=True)
class Job:
    """One job for both sides.

    Attributes:
        work: the fast side, all items [items, prompts].
        loop: the plain loop over some items by their numbers [some, prompts]; `passes` forward passes each.
        sample: items whose values are worth comparing: those that can have an effect.
        products: multiply-adds that cannot be avoided.
        lens: TransformerLens's function for this job and how many of its passes it would take.
    """

    name: str
    items: int
    work: Callable[[], Tensor]
    loop: Callable[[Sequence[int]], Tensor]
    passes: int
    sample: Sequence[int]
    products: float
    lens: tuple[LensCall, int] | None


@dataclass(frozen=True)
class Jobs:
    """The jobs of one model and batch."""

    patching: Patching

    @property
    def senders(self) -> list[Head]:
        """All heads."""
        return list(self.patching.model.layout.all_heads())

    def singles(self) -> Iterator[Job]:
        """The jobs that are timed one by one."""
        layers = self.patching.model.layout.layers
        late = 3 * layers // 4
        yield self.to_logits("heads -> logits")
        receivers = [Head(late, 0), Head(late, 1), Head(late + 1, 0)]
        yield self.to_inputs("heads -> query of three heads", "q", receivers, END)
        middle = [Head(7 * layers // 12, 0)]
        yield self.to_inputs("heads -> value", "v", middle, "subject-2")
        yield self.to_inputs("heads -> key", "k", middle, "subject-2")
        yield self._ablations()

    def sweep(self, take: Callable[[Job], Taken]) -> None:
        """Hand over the stages' jobs; what was taken of one chooses the next one's receivers."""
        movers = self._strongest(1, take(self.to_logits("1 heads -> logits")), 3)
        queries = take(self.to_inputs("2 heads -> queries", "q", movers, END))
        informers = self._strongest(2, queries, 4)
        values = take(self.to_inputs("3 heads -> values", "v", informers, "subject-2"))
        matchers = self._strongest(3, values, 2)
        keys = take(self.to_inputs("4 heads -> keys", "k", matchers, "after-subject-1"))
        take(self.to_inputs("4 heads -> values", "v", matchers, "after-subject-1"))
        take(self.to_inputs("5 heads -> values", "v", self._strongest(4, keys, 2), "subject-1"))

    def to_logits(self, name: str) -> Job:
        """Path effects of all heads on the logits."""
        senders, loop = self.senders, PlainLoop(self.patching)
        return Job(
            name,
            len(senders),
            lambda: self.patching.to_logits(senders, "through-mlps"),
            lambda some: loop.to_logits([senders[number] for number in some]),
            1,
            range(len(senders)),
            self._products.to_logits(),
            ("out", len(senders)),
        )

    def to_inputs(self, name: str, which: Projection, receivers: Sequence[Head], at: str) -> Job:
        """Path effects of all heads through inputs of receivers; of whole groups where they share them."""
        senders, loop = self.senders, PlainLoop(self.patching)
        whole = self._whole_groups(receivers, which)
        below = [number for number, sender in enumerate(senders) if sender.layer < min(head.layer for head in whole)]
        pairs = sum(sender.layer < head.layer for sender in senders for head in whole)
        return Job(
            name,
            len(senders),
            lambda: self.patching.to_inputs(senders, which, whole, at, "through-mlps"),
            lambda some: loop.to_inputs([senders[number] for number in some], which, whole, at),
            2,
            below,
            self._products.to_inputs(whole, int(self.patching.positions(at).min())),
            (which, pairs),
        )

    def _ablations(self) -> Job:
        layout, loop = self.patching.model.layout, PlainLoop(self.patching)
        late = Head(3 * layout.layers // 4, layout.heads - 1)
        sets = [[Head(number % layout.layers, number % (layout.heads - 1)), late] for number in range(_SETS)]
        zero = [torch.zeros_like(z) for z in self.patching.base.head_outputs]
        return Job(
            "joint ablation of twenty sets",
            _SETS,
            lambda: self.patching.ablated(sets, zero),
            lambda some: loop.ablated([sets[number] for number in some]),
            1,
            range(_SETS),
            sum(self._products.live(min(head.layer for head in heads), 0) for heads in sets),
            None,
        )

    @property
    def _products(self) -> Products:
        return Products(self.patching.model, len(self.patching.prompts), self.patching.base.positions)

    def _strongest(self, stage: int, taken: Taken, count: int) -> list[Head]:
        first, end = (self.patching.model.layout.layers * twelfths // 12 for twelfths in _TWELFTHS[stage])
        sizes = taken.result.mean(dim=1).abs().tolist()
        band = [(size, head) for size, head in zip(sizes, self.senders, strict=True) if first <= head.layer < end]
        return [head for _, head in sorted(band, key=lambda one: -one[0])[:count]]

    def _whole_groups(self, heads: Sequence[Head], which: Projection) -> list[Head]:
        layout = self.patching.model.layout
        whole: set[Head] = set()
        for head in heads:
            share = 1 if which == "q" else layout.heads // layout.groups(head.layer)
            start = head.head // share * share
            whole.update(Head(head.layer, number) for number in range(start, start + share))
        return sorted(whole)
