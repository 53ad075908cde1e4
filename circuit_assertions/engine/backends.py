"""Which way a model is patched: by arithmetic where its blocks are recognised, else with hooks, with one warning."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import torch

from circuit_assertions.engine.arithmetic import Block
from circuit_assertions.engine.cache import Run, capture_both
from circuit_assertions.engine.half_precision import widened
from circuit_assertions.engine.hooked import HookedPatching
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.patching import Patching
from circuit_assertions.engine.recognition import NotRecognisedError, recognise
from circuit_assertions.printable import printable
from circuit_assertions.tasks import Prompt

__all__ = ["AnyPatching", "SlowPatchingWarning", "blocks_of", "open_patching", "patching_of"]

AnyPatching = Patching | HookedPatching

_WARNED: WeakSet[Any] = WeakSet()


class SlowPatchingWarning(UserWarning):
    """A model is measured with one forward pass per head."""


@torch.no_grad()
def open_patching(model: Model, prompts: Sequence[Prompt]) -> AnyPatching:
    """Run clean prompts of equal length and their counterfactuals once each, ready for patching in either direction."""
    clean, other = capture_both(model, prompts)
    blocks = blocks_of(model, clean)
    return patching_of(model, prompts, blocks, widened(blocks, clean), widened(blocks, other))


@torch.no_grad()
def blocks_of(model: Model, run: Run) -> list[Block] | None:
    """The arithmetic of a model's blocks, proven on its own run; None, with a warning, where it is not known."""
    try:
        if model.runs_end or "writes" in model.limits:
            writes = model.limits.get("writes")
            raise NotRecognisedError("the end of the model is not recognised" if writes is None else writes.reason)
        blocks = recognise(model.layout, run, model.recognised)
        model.recognised[:] = blocks
        return blocks
    except NotRecognisedError as reason:
        if model.bridge not in _WARNED:  # a model is patched batch by batch; its user is told once
            _WARNED.add(model.bridge)
            slow = "its path effects are measured with hooks, with the same results but slower"
            warnings.warn(printable(f"{model.source.checkpoint}: {reason}; {slow}"), SlowPatchingWarning, stacklevel=2)
        return None


def patching_of(
    model: Model, prompts: Sequence[Prompt], blocks: list[Block] | None, base: Run, other: Run
) -> AnyPatching:
    """Patching of a model's run with values of another: of its counterfactuals, or of another model of the same shape.

    Args:
        blocks: the model's arithmetic, None for hooks.
        base, other: as precise as they can be had.
    """
    if blocks is None:
        return HookedPatching(model, tuple(prompts), base, other)
    return Patching(model, tuple(prompts), base, other, blocks=blocks)
