"""The slow sides: a plain loop of hooked forward passes, and TransformerLens's own patching functions."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.patching import get_act_patch_attn_head_out_all_pos, get_act_patch_direct_path

from benchmarks.machine import Machine
from circuit_assertions.engine.arithmetic import Projection
from circuit_assertions.engine.cache import Run
from circuit_assertions.engine.pair import Pair
from circuit_assertions.heads import Head

__all__ = ["LensCall", "PlainLoop", "seconds_of_lens"]

Hook = tuple[str, Callable[[Tensor, Any], Tensor | None]]
LensCall = Literal["out", "q", "k", "v"]


@dataclass(frozen=True)
class PlainLoop:
    """The usual loop with `run_with_hooks`: a forward pass per head, two through inputs, the logits read at `end`.

    The clean and the counterfactual run are given, as they are to the fast side.
    """

    pair: Pair

    @torch.no_grad()
    def to_logits(self, senders: Sequence[Head]) -> Tensor:
        """Path effects on the logits, attention frozen and MLPs live [senders, prompts]."""
        return torch.stack([self._lost(self._frozen(sender)) for sender in senders])

    @torch.no_grad()
    def to_inputs(self, senders: Sequence[Head], which: Projection, receivers: Sequence[Head], at: str) -> Tensor:
        """Path effects through the queries, or whole groups' keys or values, of receivers [senders, prompts]."""
        effects = []
        for sender in senders:
            tapped: dict[str, Tensor] = {}
            points = self._received(which, receivers)
            self._run([*self._frozen(sender), *((name, _keep(name, tapped)) for name in points)])
            effects.append(self._lost([(name, self._put(tapped[name], own, at)) for name, own in points.items()]))
        return torch.stack(effects)

    @torch.no_grad()
    def ablated(self, sets: Sequence[Sequence[Head]]) -> Tensor:
        """Logit difference with the heads of each set put to zero together [sets, prompts]."""
        layout = self.pair.model.layout
        hooks = [[(layout.head_outputs(head.layer), _zero(head.head)) for head in heads] for heads in sets]
        return torch.stack([self._difference(own) for own in hooks])

    def _frozen(self, sender: Head) -> list[Hook]:
        """Every head as in the clean run, but the sender as in the other."""
        layout = self.pair.model.layout
        hooks: list[Hook] = []
        for layer, clean in enumerate(self.pair.base.head_outputs):
            z = clean.clone()  # [prompts, positions, heads, d_head]
            if layer == sender.layer:
                z[:, :, sender.head] = self.pair.other.head_outputs[layer][:, :, sender.head]
            hooks.append((layout.head_outputs(layer), _be(z)))
        return hooks

    def _received(self, which: Projection, receivers: Sequence[Head]) -> dict[str, list[int]]:
        """Where the receivers' inputs are, and which heads or groups of heads they are there."""
        layout = self.pair.model.layout
        points: dict[str, list[int]] = {}
        for head in receivers:
            share = 1 if which == "q" else layout.heads // layout.groups(head.layer)
            points.setdefault(layout.projected(head.layer, which), []).append(head.head // share)
        return points

    def _put(self, tapped: Tensor, heads: Sequence[int], at: str) -> Callable[[Tensor, Any], Tensor]:
        rows, places = torch.arange(len(tapped), device=tapped.device)[:, None], self.pair.positions(at)[:, None]

        def put(value: Tensor, hook: Any) -> Tensor:
            changed = value.clone()
            changed[rows, places, heads] = tapped[rows, places, heads]
            return changed

        return put

    def _run(self, hooks: Sequence[Hook]) -> Tensor:
        logits: Tensor = self.pair.model.bridge.run_with_hooks(self.pair.base.tokens, fwd_hooks=list(hooks))
        return logits  # [prompts, positions, vocabulary]

    def _difference(self, hooks: Sequence[Hook]) -> Tensor:
        logits = self.pair.at_end(self._run(hooks))  # [prompts, vocabulary]
        rows = torch.arange(len(logits), device=logits.device)
        right, wrong = ([getattr(prompt, name).token for prompt in self.pair.prompts] for name in ("right", "wrong"))
        return logits[rows, right] - logits[rows, wrong]

    def _lost(self, hooks: Sequence[Hook]) -> Tensor:
        return self.pair.difference - self._difference(hooks)


def _be(value: Tensor) -> Callable[[Tensor, Any], Tensor]:
    return lambda live, hook: value


def _keep(name: str, into: dict[str, Tensor]) -> Callable[[Tensor, Any], None]:
    def keep(value: Tensor, hook: Any) -> None:
        into[name] = value.clone()

    return keep


def _zero(head: int) -> Callable[[Tensor, Any], Tensor]:
    def put(value: Tensor, hook: Any) -> Tensor:
        changed = value.clone()
        changed[:, :, head] = 0.0
        return changed

    return put


class _Enough(Exception):  # noqa: N818 (it is no error)
    """As many passes as wanted were timed."""


@torch.no_grad()
def seconds_of_lens(call: LensCall, pair: Pair, machine: Machine, passes: int) -> float | None:
    """Seconds a forward pass of TransformerLens's own functions takes, the mean of some after a first one.

    `q`, `k`, `v` are `get_act_patch_direct_path`, one pass per pair of heads; `out` is
    `get_act_patch_attn_head_out_all_pos`, one pass per head.

    Returns:
        None where TransformerLens refuses: keys and values of grouped queries.
    """
    model, tokens = pair.model.bridge, pair.base.tokens
    caches = [_cache(pair, run) for run in (pair.other, pair.base)]
    moments: list[float] = []

    def metric(logits: Tensor) -> Tensor:
        moments.append(machine.now())
        if len(moments) > passes:
            raise _Enough
        return logits[0, -1, 0]

    try:
        if call == "out":
            with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
                get_act_patch_attn_head_out_all_pos(model, tokens, caches[0], metric)
        else:
            for head in itertools.count():
                source = pair.model.layout.layers - 2
                get_act_patch_direct_path(model, tokens, *caches, metric, source, head, call, verbose=False)
    except _Enough:
        return (moments[-1] - moments[0]) / passes
    except ValueError:
        return None
    raise AssertionError("the functions end only when enough was timed")


def _cache(pair: Pair, run: Run) -> ActivationCache:
    """What TransformerLens's functions take from a run: its heads' outputs."""
    layout = pair.model.layout
    outputs = {layout.head_outputs(layer): z for layer, z in enumerate(run.head_outputs)}
    return ActivationCache(outputs, pair.model.bridge)
