"""Transplants: one model's activations put into another while it reads the same prompts.

Cross-model activation patching (Prakash et al. 2024, arXiv 2402.14811, section 5). It tells where a change shows, which
may lie far downstream of where it comes from. A head's output is what it writes, through the output projection of the
model that it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.components import Mlp
from circuit_assertions.engine.backends import AnyPatching
from circuit_assertions.engine.cache import Run
from circuit_assertions.engine.changes import put_patterns
from circuit_assertions.engine.layout import UNEMBED_INPUT, Layout
from circuit_assertions.engine.live import Change, Live, Point
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.patching import Patching
from circuit_assertions.engine.rows import Sender
from circuit_assertions.engine.slopes import Slopes, slopes_of_activations
from circuit_assertions.engine.two_models import TwoModels
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END, PromptSet

__all__ = ["Transplanting"]

_VARIANTS = 8  # sets that run together


@dataclass(frozen=True)
class Transplanting:
    """Activations of `source`, a model of the same shape, put into `into` on clean prompts.

    Every result is the logit difference that `into` gains by it; negative where it loses.
    """

    into: Model
    source: Model
    prompts: PromptSet
    _meeting: TwoModels | None = field(default=None, repr=False, compare=False)
    _place: int = 0  # of `into` in the meeting

    def __post_init__(self) -> None:
        """Let the two models meet, unless they have met already."""
        if self._meeting is None:
            object.__setattr__(self, "_meeting", TwoModels(self.into, self.source, self.prompts))

    @property
    def turned(self) -> Transplanting:
        """The same the other way: activations of `into` put into `source`. Both share what the models put out."""
        return Transplanting(self.source, self.into, self.prompts, self._meeting, 1 - self._place)

    @torch.no_grad()
    def outputs(self, sets: Sequence[Collection[Sender]]) -> Tensor:
        """What the outputs of each set of heads and MLPs bring together, at every position [sets, prompts].

        Exactly 0 where all of a set put out the same in both models.
        """
        return self._each(len(sets), lambda patching: self._gained(patching, sets))

    @torch.no_grad()
    def patterns(self, heads: Sequence[Head]) -> Tensor:
        """What each head's attention pattern alone brings [heads, prompts]; exactly 0 where both attend alike."""
        return self._each(len(heads), lambda patching: _of_patterns(patching, heads))

    @torch.no_grad()
    def patterns_together(self, sets: Sequence[Sequence[Head]]) -> Tensor:
        """What the attention patterns of each set of heads bring together [sets, prompts]."""
        return self._each(len(sets), lambda patching: torch.stack([_of_set(patching, heads) for heads in sets]))

    def slopes(self) -> Slopes:
        """About what each single output and each single pattern adds to the mean logit difference, to first order."""
        return slopes_of_activations(self.into, self.source, self._patchings())

    def _patchings(self) -> Iterator[AnyPatching]:
        assert self._meeting is not None
        return (met.patchings[self._place] for met in self._meeting.batches())

    def _each(self, rows: int, read: Callable[[AnyPatching], Tensor]) -> Tensor:
        assert self._meeting is not None
        result = torch.empty(rows, len(self.prompts), dtype=torch.float64)
        for met in self._meeting.batches():
            result[:, list(met.indices)] = read(met.patchings[self._place]).double().cpu()
        return result

    def _gained(self, patching: AnyPatching, sets: Sequence[Collection[Sender]]) -> Tensor:
        """Logit difference gained by each set [sets, prompts]."""
        gained = patching.difference.new_zeros(len(sets), len(patching.prompts))
        differ = {one for one in {one for chosen in sets for one in chosen} if self._differs(patching, one)}
        lowest = {
            index: min(one.layer for one in chosen)
            for index, chosen in enumerate(sets)
            if not differ.isdisjoint(chosen)
        }
        for start in sorted(set(lowest.values())):  # sets that begin in one layer share all that lies below it
            together = [index for index, layer in lowest.items() if layer == start]
            for first in range(0, len(together), _VARIANTS):
                some = together[first : first + _VARIANTS]
                chosen = [sets[index] for index in some]
                if isinstance(patching, Patching):
                    rows = self._arithmetic(patching, start, chosen)
                else:
                    rows = patching.at_end(torch.stack([self._hooked(patching, one) for one in chosen]))
                gained[some] = patching.difference_of(rows) - patching.difference
        return gained

    def _differs(self, patching: AnyPatching, one: Sender) -> bool:
        """Whether a component puts out anything else in the source."""
        layer, runs = one.layer, (patching.base, patching.other)
        if isinstance(one, Mlp):
            return not torch.equal(*(run.mlp_writes[layer] for run in runs))
        weights = [model.layout.W_O(layer)[one.head] for model in (self.into, self.source)]
        outputs = [run.head_outputs[layer][:, :, one.head] for run in runs]
        return not (torch.equal(*weights) and torch.equal(*outputs))

    def _arithmetic(self, patching: Patching, start: int, sets: Sequence[Collection[Sender]]) -> Tensor:
        """Final residual streams at `end` [sets, prompts, d_model]."""
        changes: dict[tuple[int, Point], Change] = {}
        for layer in range(start, self.into.layout.layers):
            heads = [_heads_of(chosen, layer) for chosen in sets]
            if any(heads):
                changes[layer, "z"] = _silenced(heads)
                changes[layer, "attention"] = _added([self._writes(patching.other, layer, own) for own in heads])
            mlps = [index for index, chosen in enumerate(sets) if Mlp(layer) in chosen]
            if mlps:
                changes[layer, "mlp"] = _put(len(sets), mlps, patching.other.mlp_writes[layer])
        live = Live(patching.blocks, patching.base, start, 0, len(sets), changes)
        return live.final_at(patching.places(END))

    def _hooked(self, patching: AnyPatching, chosen: Collection[Sender]) -> Tensor:
        """The final residual stream [prompts, positions, d_model], by one forward pass."""
        layout = self.into.layout
        kept: list[Tensor] = []
        hooks: list[tuple[str, Callable[..., Any]]] = [
            (layout.final_residual, lambda value, hook: kept.append(value.to(self.into.device)))
        ]
        hooks.append((UNEMBED_INPUT, lambda value, hook: value[:, :1]))
        for layer in range(layout.layers):
            heads = _heads_of(chosen, layer)
            if heads:
                hooks.append((layout.head_outputs(layer), _as_hook(_silenced([heads]), self.into.device)))
                written = [self._writes(patching.other, layer, heads)]
                hooks.append((layout.attention_output(layer), _as_hook(_added(written), self.into.device)))
            if Mlp(layer) in chosen:
                hooks.append(
                    (
                        layout.mlp_write(layer),
                        _as_hook(_put(1, [0], patching.other.mlp_writes[layer]), self.into.device),
                    )
                )
        self.into.bridge.run_with_hooks(patching.base.tokens, fwd_hooks=hooks)
        return kept[-1]

    def _writes(self, run: Run, layer: int, heads: Sequence[int]) -> Tensor | None:
        """What the source's heads add to its attention output [prompts, positions, d_model]."""
        layout: Layout = self.source.layout
        if not heads:
            return None
        z = run.head_outputs[layer][:, :, list(heads)]  # [prompts, positions, heads, d_head]
        return torch.einsum("bphd,hdm->bpm", z, layout.W_O(layer)[list(heads)].to(z))


def _of_patterns(patching: AnyPatching, heads: Sequence[Head]) -> Tensor:
    """Logit difference gained by each head's pattern [heads, prompts]."""
    gained = patching.difference.new_zeros(len(heads), len(patching.prompts))
    base, other = patching.base.patterns, patching.other.patterns
    differ = [
        row for row, (layer, head) in enumerate(heads) if not torch.equal(base[layer][:, head], other[layer][:, head])
    ]
    if differ:
        gained[differ] = -patching.of_patterns([heads[row] for row in differ])
    return gained


def _of_set(patching: AnyPatching, heads: Sequence[Head]) -> Tensor:
    """Logit difference gained by the patterns of some heads together [prompts]."""
    base, other = patching.base.patterns, patching.other.patterns
    differ = [(layer, head) for layer, head in heads if not torch.equal(base[layer][:, head], other[layer][:, head])]
    if not differ:
        return patching.difference.new_zeros(len(patching.prompts))
    if not isinstance(patching, Patching):
        return -patching.of_patterns_together([Head(*one) for one in differ])
    changes: dict[tuple[int, Point], Change] = {
        (layer, "pattern"): put_patterns([[head for one, head in differ if one == layer]], other[layer])
        for layer in {layer for layer, _ in differ}
    }
    live = Live(patching.blocks, patching.base, min(layer for layer, _ in changes), 0, 1, changes)
    gained: Tensor = patching.difference_of(live.final_at(patching.places(END)))[0] - patching.difference
    return gained


def _heads_of(chosen: Collection[Sender], layer: int) -> list[int]:
    return [one.head for one in chosen if isinstance(one, Head) and one.layer == layer]


def _silenced(heads: Sequence[Sequence[int]]) -> Change:
    """In variant n, heads[n] put out nothing."""

    def change(live: Tensor) -> Tensor:
        put = live.expand(len(heads), *live.shape[1:]).clone()  # [variants, prompts, positions, heads, d_head]
        for row, chosen in enumerate(heads):
            put[row][:, :, list(chosen)] = 0
        return put

    return change


def _added(writes: Sequence[Tensor | None]) -> Change:
    """In variant n, `writes[n]` [prompts, positions, d_model] is added."""

    def change(live: Tensor) -> Tensor:
        put = live.expand(len(writes), *live.shape[1:]).clone()
        for row, written in enumerate(writes):
            if written is not None:
                put[row] += written.to(put)
        return put

    return change


def _put(variants: int, rows: Sequence[int], values: Tensor) -> Change:
    """In some of the variants, `values` [prompts, positions, d_model]."""

    def change(live: Tensor) -> Tensor:
        put = live.expand(variants, *live.shape[1:]).clone()
        put[list(rows)] = values.to(put)
        return put

    return change


def _as_hook(change: Change, device: torch.device) -> Callable[[Tensor, Any], Tensor]:
    return lambda value, hook: change(value[None].to(device))[0].to(value.device)
