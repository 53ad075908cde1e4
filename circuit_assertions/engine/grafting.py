"""Grafts: one model's weights of some parts in the place of another's, and what the other then answers.

The same inputs meet the changed part alone, so a graft tells the origin of a fault where activations only tell where it
shows. What lies below the lowest grafted part does not change and is computed once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from circuit_assertions.components import Embedding, Part
from circuit_assertions.engine.arithmetic import Block
from circuit_assertions.engine.cache import Run, capture
from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.half_precision import widened
from circuit_assertions.engine.live import Live
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.parts import parts_of
from circuit_assertions.engine.recognition import NotRecognisedError, recognise
from circuit_assertions.tasks import END, Prompt, PromptSet

__all__ = ["Grafting"]

_TOGETHER = 64  # prompts whose residual streams are kept and run at a time


@dataclass
class Grafting:
    """Parts of `source` that can be put into `into`, a model of the same shape.

    `into` is left as it was, bit for bit, after every graft.

    Attributes:
        prompts: what a grafted model is asked.
    """

    into: Model
    source: Model
    prompts: PromptSet
    _batches: list[_Batch] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Hold the shapes against each other.

        Raises:
            MeasuringError: if they differ.
        """
        ours, theirs = self._own, self._others
        wrong = [
            part
            for part in {**ours, **theirs}
            if [one.shape for one in ours.get(part, [])] != [one.shape for one in theirs.get(part, [])]
        ]
        if wrong:
            raise MeasuringError(
                f"{self.source.source.checkpoint} does not fit {self.into.source.checkpoint}: "
                f"the weights of {wrong[0]} have other shapes"
            )

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, in the order of the model."""
        return tuple(self._own)

    @cached_property
    def changed(self) -> tuple[Part, ...]:
        """The parts whose weights differ in any bit, in the order of the model. All others are identical."""
        return tuple(
            part
            for part, tensors in self._own.items()
            if any(not torch.equal(one, other) for one, other in zip(tensors, self._others[part], strict=True))
        )

    @torch.no_grad()
    def difference(self, parts: Collection[Part] = ()) -> Tensor:
        """The answer metric at `end` of `into` with these parts grafted [prompts], float64 on the CPU.

        Where the two have the same weights in all of them, the very numbers of `into` as it is.
        """
        result = torch.empty(len(self.prompts), dtype=torch.float64)
        batches = self._kept()
        parts = [part for part in parts if part in self.changed]
        lowest = min((part.layer for part in parts), default=self.into.layout.layers)
        with self._grafted(parts):
            for batch in batches:
                result[batch.indices] = self._answers(batch, lowest, parts).double().cpu()
        return result

    def _answers(self, batch: _Batch, lowest: int, parts: Collection[Part]) -> Tensor:
        """The answer metric [prompts] of a batch with whatever is grafted now, from the lowest changed layer on."""
        layout, run = self.into.layout, batch.run
        ends = [prompt.positions[END] for prompt in batch.prompts]
        prompts = torch.arange(len(batch.prompts), device=run.final.device)
        if Embedding() in parts or batch.blocks is None:
            rows = (widened(batch.blocks, capture(self.into, run.tokens)) if parts else run).final[prompts, ends]
        elif lowest >= layout.layers:
            rows = run.final[prompts, ends]
        else:
            rows = Live(batch.blocks, run, lowest, 0, 1).final_at(ends)[0]
        return self.into.readout.difference(rows, batch.prompts)

    @contextlib.contextmanager
    def _grafted(self, parts: Collection[Part]) -> Iterator[None]:
        saved: list[tuple[Tensor, Tensor]] = []
        try:
            for part in parts:
                for own, other in zip(self._own[part], self._others[part], strict=True):
                    saved.append((own, own.clone()))
                    own.copy_(other)
            yield
        finally:
            for own, before in reversed(saved):
                own.copy_(before)

    def _kept(self) -> list[_Batch]:
        """The prompts in batches, with the residual streams of `into` as it is."""
        if not self._batches:
            for indices, prompts in self.prompts.batches(_TOGETHER):
                tokens = torch.tensor([prompt.tokens for prompt in prompts], device=self.into.device)
                run = capture(self.into, tokens)
                try:
                    blocks: list[Block] | None = recognise(self.into.layout, run)
                except NotRecognisedError:
                    blocks = None
                run = widened(blocks, run)
                kept = Run(tokens, residual=run.residual, final=run.final, rotary=run.rotary)
                self._batches.append(_Batch(list(indices), prompts, kept, blocks))
        return self._batches

    @cached_property
    def _own(self) -> dict[Part, list[Tensor]]:
        return parts_of(self.into.layout)

    @cached_property
    def _others(self) -> dict[Part, list[Tensor]]:
        return parts_of(self.source.layout)


@dataclass(frozen=True)
class _Batch:
    indices: list[int]
    prompts: tuple[Prompt, ...]
    run: Run
    blocks: list[Block] | None
