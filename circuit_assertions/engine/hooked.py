"""Path patching with hooks, one forward pass a sender: for models whose blocks the arithmetic does not recognise.

The same numbers as `patching`, slower. Keys and values are patched as the groups that the model has; giving one query
head of a group its own is what only the arithmetic can do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.engine.arithmetic import Projection
from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.layout import FINAL_RESIDUAL, UNEMBED_INPUT
from circuit_assertions.engine.pair import Pair
from circuit_assertions.engine.rows import Frozen, Sender
from circuit_assertions.heads import Head

__all__ = ["HookedPatching"]

Hook = tuple[str, Callable[[Tensor, Any], Tensor | None]]


@dataclass(frozen=True)
class HookedPatching(Pair):
    """Patching with hooks."""

    @torch.no_grad()
    def to_logits(self, senders: Sequence[Sender], semantics: Frozen) -> Tensor:
        """Path effects of senders on the logits at `end` [senders, prompts]."""
        return torch.stack([self._effect(self._frozen(sender, semantics)) for sender in senders])

    @torch.no_grad()
    def to_inputs(
        self, senders: Sequence[Sender], which: Projection, receivers: Sequence[Head], at: str, semantics: Frozen
    ) -> Tensor:
        """Path effects of senders through the queries, keys or values of receivers at a position [senders, prompts].

        Raises:
            MeasuringError: if the receivers are some, but not all, heads of a group, or the model has no such heads.
        """
        self.check_receivers(receivers)
        groups = self._groups(which, receivers)
        effects = []
        for sender in senders:
            tapped: dict[int, Tensor] = {}
            taps = [self._tap(layer, which, tapped) for layer in groups]
            self._run([*self._frozen(sender, semantics), *taps])
            effects.append(
                self._effect([self._put(layer, which, heads, tapped[layer], at) for layer, heads in groups.items()])
            )
        return torch.stack(effects)

    @torch.no_grad()
    def total(self, senders: Sequence[Sender], at: str | None = None) -> Tensor:
        """Effects of senders' own outputs of the other run, everything after them live [senders, prompts]."""
        return torch.stack([self._effect([self._own_output(sender, at)]) for sender in senders])

    @torch.no_grad()
    def ablated(self, sets: Sequence[Sequence[Head]], replacement: Sequence[Tensor]) -> Tensor:
        """Logit difference with the heads of each set replaced together [sets, prompts]."""
        differences = []
        for heads in sets:
            layers = sorted({head.layer for head in heads})
            hooks = [
                self._replace(layer, [head.head for head in heads if head.layer == layer], replacement[layer])
                for layer in layers
            ]
            differences.append(self.difference_of(self.at_end(self._run(hooks))))
        return torch.stack(differences)

    def _frozen(self, sender: Sender, semantics: Frozen) -> list[Hook]:
        """All heads as in the base run but the sender; MLPs live, or as in the base run too."""
        layout = self.model.layout
        hooks: list[Hook] = []
        for layer in range(layout.layers):
            z = self.base.head_outputs[layer]
            if isinstance(sender, Head) and sender.layer == layer:
                z = z.clone()
                z[:, :, sender.head] = self.other.head_outputs[layer][:, :, sender.head]
            hooks.append(_put_whole(layout.head_outputs(layer), z))
            if not isinstance(sender, Head) and sender.layer == layer:
                hooks.append(_put_whole(layout.mlp_write(layer), self.other.mlp_writes[layer]))
            elif semantics == "direct":
                hooks.append(_put_whole(layout.mlp_write(layer), self.base.mlp_writes[layer]))
        return hooks

    def _own_output(self, sender: Sender, at: str | None) -> Hook:
        layer, layout = sender.layer, self.model.layout
        if isinstance(sender, Head):
            name, source = layout.head_outputs(layer), self.other.head_outputs[layer][:, :, sender.head]
        else:
            name, source = layout.mlp_write(layer), self.other.mlp_writes[layer]
        rows = torch.arange(len(self.prompts), device=self.model.device)
        places = None if at is None else self.positions(at)

        def put(value: Tensor, hook: Any) -> Tensor:
            changed = value.clone()
            target = changed[:, :, sender.head] if isinstance(sender, Head) else changed
            if places is None:
                target.copy_(source)
            else:
                target[rows, places] = source[rows, places]
            return changed

        return name, put

    def _replace(self, layer: int, heads: Sequence[int], values: Tensor) -> Hook:
        def put(value: Tensor, hook: Any) -> Tensor:
            changed = value.clone()
            changed[:, :, list(heads)] = values[:, :, list(heads)]
            return changed

        return self.model.layout.head_outputs(layer), put

    def _tap(self, layer: int, which: Projection, into: dict[int, Tensor]) -> Hook:
        def keep(value: Tensor, hook: Any) -> None:
            into[layer] = value.clone()

        return self.model.layout.projected(layer, which), keep

    def _put(self, layer: int, which: Projection, groups: Sequence[int], tapped: Tensor, at: str) -> Hook:
        rows = torch.arange(len(self.prompts), device=self.model.device)[:, None]
        places, chosen = self.positions(at)[:, None], torch.tensor(groups, device=self.model.device)

        def put(value: Tensor, hook: Any) -> Tensor:
            changed = value.clone()
            changed[rows, places, chosen] = tapped[rows, places, chosen]
            return changed

        return self.model.layout.projected(layer, which), put

    def _groups(self, which: Projection, receivers: Sequence[Head]) -> dict[int, list[int]]:
        """Receivers as the model holds them, a layer: query heads, or the groups whose keys and values they share."""
        groups: dict[int, list[int]] = {}
        for layer in sorted({head.layer for head in receivers}):
            heads = {head.head for head in receivers if head.layer == layer}
            share = 1 if which == "q" else self.model.layout.heads // self.model.layout.groups(layer)
            groups[layer] = sorted({head // share for head in heads})
            if len(heads) != share * len(groups[layer]):
                raise MeasuringError(
                    f"heads of layer {layer} share their keys and values in groups of {share}: "
                    f"name all heads of a group as receivers"
                )
        return groups

    def _run(self, hooks: Sequence[Hook]) -> Tensor:
        """The final residual stream under some hooks [prompts, positions, d_model]."""
        kept: list[Tensor] = []

        def keep(value: Tensor, hook: Any) -> None:
            kept.append(value)

        ends: list[Hook] = [(FINAL_RESIDUAL, keep), (UNEMBED_INPUT, lambda value, hook: value[:, :1])]
        self.model.bridge.run_with_hooks(self.base.tokens, fwd_hooks=[*hooks, *ends])
        return kept[0]

    def _effect(self, hooks: Sequence[Hook]) -> Tensor:
        return self.effect_of(self.at_end(self._run(hooks)))


def _put_whole(name: str, value: Tensor) -> Hook:
    return name, lambda live, hook: value
