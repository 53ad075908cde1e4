"""Captured runs, kept for the next use of the same ones while there is room for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from circuit_assertions.engine.arithmetic import Block
from circuit_assertions.engine.entering import Place
from circuit_assertions.engine.memory import budget
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.passes import Pass, Wanted, run_passes
from circuit_assertions.tasks import Prompt, PromptSet

__all__ = ["Kept", "PassCache"]


class _OfPrompts(Protocol):
    """A batch, with its prompts' indices in their set."""

    @property
    def indices(self) -> tuple[int, ...]: ...


_Batch = TypeVar("_Batch", bound=_OfPrompts)


@dataclass
class Kept(Generic[_Batch]):
    """Batches of runs, by what they are of: as many as one piece of work may take; the longest unused go first."""

    _held: dict[Hashable, tuple[list[_Batch], int]] = field(default_factory=dict, repr=False)  # with their bytes

    def get(self, key: Hashable) -> list[_Batch] | None:
        """What is kept under a key."""
        return self._held[key][0] if key in self._held else None

    def batches(
        self, key: Hashable, device: torch.device, prompts: int, run: Callable[[], Iterable[_Batch]]
    ) -> Iterator[_Batch]:
        """The batches kept under a key, else those of `run`, which are then kept if all of them will fit.

        Args:
            prompts: how many all batches hold together.
        """
        batches = self.get(key) or run()
        self.forget(lambda other: other == key)
        room, weighs, seen, kept = budget(device), 0, 0, list[_Batch]()
        for batch in batches:
            yield batch
            # Weighed afterwards: whoever read it may have left something with it.
            weighs, seen = weighs + _weight(batch), seen + len(batch.indices)
            if weighs * prompts > room * seen:
                room, kept = 0, []
            else:
                self._make_room(room - weighs)
                kept.append(batch)
        if kept:
            self._held[key] = kept, weighs

    def forget(self, which: Callable[[Any], bool]) -> None:
        """Release what is kept under some keys."""
        self._held = {key: held for key, held in self._held.items() if not which(key)}

    def _make_room(self, room: int) -> None:
        while self._held and sum(weighs for _, weighs in self._held.values()) > room:
            del self._held[next(iter(self._held))]


@dataclass
class PassCache:
    """Passes over whole tasks. Those made for patching show everything, and are used again later."""

    _kept: Kept[Pass] = field(default_factory=Kept)

    def run(self, key: Hashable, model: Model, prompts: PromptSet, wanted: Wanted) -> Iterator[Pass]:
        """As `run_passes`. The key says of which model and which prompts."""
        kept = self._kept.get(key)
        if kept is None and not wanted.patching:
            return run_passes(model, prompts, wanted)
        if kept is not None:
            wanted |= Wanted(patching=True)
            shown = _shown_by(kept, wanted)
            if wanted | shown != shown:
                self.forget(lambda other: other == key)
                wanted |= shown
        return self._kept.batches(key, model.device, len(prompts), lambda: run_passes(model, prompts, wanted))

    def forget(self, which: Callable[[Any], bool]) -> None:
        """Release the passes kept under some keys."""
        self._kept.forget(which)


def _shown_by(passes: Sequence[Pass], wanted: Wanted) -> Wanted:
    """What passes that were made for patching show; of what enters blocks, no more than is wanted or is kept alone."""
    # Prompts of a template that have other lengths never share a batch.
    templates = [one for taken in passes for one in {(len(prompt.tokens), prompt.template) for prompt in taken.prompts}]
    return Wanted(
        patterns=True,
        end_writes=True,
        after_block_0=True,
        target_logits=all(taken.target_logits is not None for taken in passes),
        patching=True,
        whole_templates=len(templates) == len(set(templates)),
        entering=frozenset.intersection(*(_entering_shown(taken, wanted) for taken in passes)),
    )


def _entering_shown(taken: Pass, wanted: Wanted) -> frozenset[Place]:
    if taken.entering is None:
        return frozenset()
    return wanted.entering if taken.entering.places is None else taken.entering.places


def _weight(batch: object) -> int:
    """Bytes of the activations in a batch of runs, each counted once, however many refer to it."""
    stores = [tensor.untyped_storage() for tensor in _tensors(batch)]
    return sum({store.data_ptr(): store.nbytes() for store in stores}.values())


def _tensors(value: object) -> Iterator[Tensor]:
    """What lies in a batch, down to its tensors. The model and its weights are no part of it."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for each in value:
            yield from _tensors(each)
    elif is_dataclass(value) and not isinstance(value, Model | Block | Prompt):
        yield from _tensors(vars(value))
