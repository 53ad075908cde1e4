"""Path patching with hooks, one forward pass per sender: for models whose blocks the arithmetic does not recognise.

The same numbers as `patching`, slower. Keys and values are patched as the groups that the model has; giving one query
head of a group its own is what only the arithmetic can do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from circuit_assertions.components import Component, Mlp
from circuit_assertions.engine.arithmetic import Projection
from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.layout import UNEMBED_INPUT
from circuit_assertions.engine.pair import Pair
from circuit_assertions.engine.rows import Frozen, Sender
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END

__all__ = ["HookedPatching"]

Hook = tuple[str, Callable[[Tensor, Any], Tensor | None]]


@dataclass(frozen=True)
class HookedPatching(Pair):
    """Patching with hooks."""

    @torch.no_grad()
    def to_logits(self, senders: Sequence[Sender], semantics: Frozen) -> Tensor:
        """Path effects of senders on the logits at `end` [senders, prompts]."""
        return self._stacked([self._effect(self._frozen(sender, semantics)) for sender in senders])

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
        return self._stacked(
            [self._effect(self._receiving(sender, which, groups, at, semantics)) for sender in senders]
        )

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

        Raises:
            MeasuringError: as `to_inputs`.
        """
        self.check_receivers(receivers)
        groups = self._groups(which, receivers)
        rows = torch.arange(len(self.prompts), device=self.model.device)
        seen = (rows, self.positions(query), self.positions(key))

        def paid(patterns: Mapping[int, Tensor]) -> Tensor:
            """The mean over receivers [prompts]."""
            columns = [patterns[head.layer][seen[0], head.head, seen[1], seen[2]] for head in receivers]
            return torch.stack(columns).mean(dim=0)

        lost = []
        for sender in senders:
            receiving = self._receiving(sender, which, groups, query if which == "q" else key, semantics)
            patterns, _ = self._alone(receiving, groups)
            lost.append(paid({layer: self.base.patterns[layer] for layer in groups}) - paid(patterns))
        return self.signed(self._stacked(lost))

    @torch.no_grad()
    def to_writes(
        self, senders: Sequence[Sender], which: Projection, receivers: Sequence[Head], at: str, semantics: Frozen
    ) -> Tensor:
        """Effects of senders on what receivers write directly into the logit difference at `end` [senders, prompts].

        Raises:
            MeasuringError: as `to_inputs`, or if queries elsewhere than at `end` are to receive.
        """
        self.check_receivers(receivers)
        self.check_reaches_end(which, at)
        groups = self._groups(which, receivers)
        rows, end = torch.arange(len(self.prompts), device=self.model.device), self.positions(END)
        effects = []
        for sender in senders:
            _, outputs = self._alone(self._receiving(sender, which, groups, at, semantics), groups)
            final = self.at_end(self.base.final)  # [prompts, d_model]
            for layer in groups:
                heads = torch.tensor([head.head for head in receivers if head.layer == layer], device=rows.device)
                final = final + self.changed_write(layer, heads, outputs[layer][rows, end][:, heads])
            effects.append(self.effect_of(final))
        return self._stacked(effects)

    @torch.no_grad()
    def total(self, senders: Sequence[Component], at: str | None = None) -> Tensor:
        """Effects of senders' own outputs of the other run, everything after them live [senders, prompts]."""
        return self._stacked([self._effect([self._own_output(sender, at)]) for sender in senders])

    @torch.no_grad()
    def of_patterns(self, heads: Sequence[Head], at: str | None = None) -> Tensor:
        """Effects of heads' attention patterns of the other run, their values live [heads, prompts]."""
        return self._stacked([self._effect(self._own_pattern(head, at)) for head in heads])

    @torch.no_grad()
    def of_patterns_together(self, heads: Sequence[Head]) -> Tensor:
        """Effect of the attention patterns of all these heads at once [prompts]."""
        return self._effect([hook for head in heads for hook in self._own_pattern(head, None)])

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
        return self._stacked(differences)

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

    def _receiving(
        self, sender: Sender, which: Projection, groups: Mapping[int, list[int]], at: str, semantics: Frozen
    ) -> list[Hook]:
        """Receivers' inputs at a position as the path from the sender makes them. Costs one forward pass."""
        tapped: dict[int, Tensor] = {}
        self._run([*self._frozen(sender, semantics), *(self._tap(layer, which, tapped) for layer in groups)])
        return [self._put(layer, which, heads, tapped[layer], at) for layer, heads in groups.items()]

    def _alone(
        self, receiving: Sequence[Hook], layers: Iterable[int]
    ) -> tuple[Mapping[int, Tensor], Mapping[int, Tensor]]:
        """Patterns and head outputs of some layers, their inputs changed and every block's attention as it was."""
        layout = self.model.layout
        patterns: dict[int, Tensor] = {}
        outputs: dict[int, Tensor] = {}

        def keep(into: dict[int, Tensor], layer: int, instead: Tensor | None) -> Callable[[Tensor, Any], Tensor | None]:
            def hook(value: Tensor, hook: Any) -> Tensor | None:
                into[layer] = value.to(self.model.device, copy=True)
                return None if instead is None else instead.to(value.device)

            return hook

        hooks = list(receiving)
        for layer in layers:
            hooks.append((layout.pattern(layer), keep(patterns, layer, None)))
            hooks.append((layout.head_outputs(layer), keep(outputs, layer, self.base.head_outputs[layer])))
        self._run(hooks)
        return patterns, outputs

    def _own_output(self, sender: Component, at: str | None) -> Hook:
        layer, layout = sender.layer, self.model.layout
        if isinstance(sender, Head):
            values = self.other.head_outputs[layer][:, :, sender.head]
            return layout.head_outputs(layer), self._put_positions(values, at, lambda live: live[:, :, sender.head])
        if isinstance(sender, Mlp):
            return layout.mlp_write(layer), self._put_positions(self.other.mlp_writes[layer], at, lambda live: live)
        return layout.residual_before(layer), self._put_positions(self.other.residual[layer], at, lambda live: live)

    def _own_pattern(self, head: Head, at: str | None) -> list[Hook]:
        """The other run's pattern over live values, put in as the head's output.

        Some models consume a pattern before a hook could change it.
        """
        layer, layout = head.layer, self.model.layout
        values: dict[int, Tensor] = {}

        def attend(z: Tensor, hook: Any) -> Tensor:
            group = head.head // (layout.heads // layout.groups(layer))
            attended = layout.clamped(layer, values[layer][:, :, group])
            output = self.other.patterns[layer][:, head.head] @ attended
            return self._put_positions(output, at, lambda live: live[:, :, head.head])(z, hook)

        return [self._tap(layer, "v", values), (layout.head_outputs(layer), attend)]

    def _put_positions(
        self, values: Tensor, at: str | None, part: Callable[[Tensor], Tensor]
    ) -> Callable[[Tensor, Any], Tensor]:
        """Put values [prompts, positions, ...] into a part of what is live, a view, at a position or at all."""
        rows = torch.arange(len(self.prompts), device=self.model.device)
        places = None if at is None else self.positions(at)

        def put(value: Tensor, hook: Any) -> Tensor:
            changed = value.clone()
            if places is None:
                part(changed).copy_(values)
            else:
                put_in = values[rows, places].to(changed)
                part(changed)[rows.to(changed.device), places.to(changed.device)] = put_in
            return changed

        return put

    def _replace(self, layer: int, heads: Sequence[int], values: Tensor) -> Hook:
        def put(value: Tensor, hook: Any) -> Tensor:
            changed = value.clone()
            changed[:, :, list(heads)] = values[:, :, list(heads)].to(changed)
            return changed

        return self.model.layout.head_outputs(layer), put

    def _tap(self, layer: int, which: Projection, into: dict[int, Tensor]) -> Hook:
        def keep(value: Tensor, hook: Any) -> None:
            into[layer] = value.to(self.model.device, copy=True)

        return self.model.layout.projected(layer, which), keep

    def _put(self, layer: int, which: Projection, groups: Sequence[int], tapped: Tensor, at: str) -> Hook:
        rows = torch.arange(len(self.prompts), device=self.model.device)[:, None]
        places, chosen = self.positions(at)[:, None], torch.tensor(groups, device=self.model.device)

        def put(value: Tensor, hook: Any) -> Tensor:
            changed = value.clone()
            at_places = [index.to(changed.device) for index in (rows, places, chosen)]
            changed[tuple(at_places)] = tapped[rows, places, chosen].to(changed)
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
            kept.append(value.to(self.model.device))

        ends: list[Hook] = [(self.model.layout.final_residual, keep), (UNEMBED_INPUT, lambda value, hook: value[:, :1])]
        self.model.bridge.run_with_hooks(self.base.tokens, fwd_hooks=[*hooks, *ends])
        return kept[-1]

    def _stacked(self, each: Sequence[Tensor]) -> Tensor:
        """One row an item [items, prompts], also of no items."""
        return torch.stack(list(each)) if each else self.base.final.new_empty(0, len(self.prompts))

    def _effect(self, hooks: Sequence[Hook]) -> Tensor:
        return self.effect_of(self.at_end(self._run(hooks)))


def _put_whole(name: str, value: Tensor) -> Hook:
    return name, lambda live, hook: value.to(live.device)
