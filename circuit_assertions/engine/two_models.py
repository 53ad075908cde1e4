"""Two models of one shape on the same prompts: what both made of them, and how to put the one's into the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from circuit_assertions.engine.arithmetic import Block
from circuit_assertions.engine.backends import AnyPatching, blocks_of, patching_of
from circuit_assertions.engine.cache import Run, capture
from circuit_assertions.engine.half_precision import widened
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.pass_cache import Kept
from circuit_assertions.engine.patching import Patching
from circuit_assertions.tasks import Prompt, PromptSet

__all__ = ["TwoModels", "TwoRuns"]

_TOGETHER = 32  # prompts whose two runs are kept at a time


@dataclass(frozen=True)
class TwoRuns:
    """A batch of prompts of equal length.

    Attributes:
        indices: of its prompts, in their set.
        patchings: of the one model with what the other put out, and the other way round.
    """

    indices: tuple[int, ...]
    patchings: tuple[AnyPatching, AnyPatching]


@dataclass
class TwoModels:
    """Both models' runs, taken once where they are small enough to be kept."""

    one: Model
    other: Model
    prompts: PromptSet
    _kept: Kept[TwoRuns] = field(default_factory=Kept, repr=False)

    def batches(self) -> Iterator[TwoRuns]:
        """The prompts in batches."""
        return self._kept.batches("all", self.one.device, len(self.prompts), self._run)

    def _run(self) -> Iterator[TwoRuns]:
        for indices, prompts in self.prompts.batches(_TOGETHER):
            yield self._meet(indices, prompts)

    @torch.no_grad()
    def _meet(self, indices: tuple[int, ...], prompts: Sequence[Prompt]) -> TwoRuns:
        tokens = torch.tensor([prompt.tokens for prompt in prompts])
        one, own = self._read(self.one, tokens)
        if self.other is self.one:
            itself = _slim(patching_of(self.one, prompts, own, one, one))
            return TwoRuns(indices, (itself, itself))
        other, others = self._read(self.other, tokens)
        into_one = patching_of(self.one, prompts, own, one, other)
        into_other = patching_of(self.other, prompts, others, other, one)
        return TwoRuns(indices, (_slim(into_one), _slim(into_other)))

    @staticmethod
    def _read(model: Model, tokens: Tensor) -> tuple[Run, list[Block] | None]:
        """A model's run, as precise as its blocks can be computed, and their arithmetic where it is known."""
        run = capture(model, tokens.to(model.device))
        blocks = blocks_of(model, run)
        return widened(blocks, run), blocks


def _slim(patching: AnyPatching) -> AnyPatching:
    """The same without what only recognising reads. Hooks read everything."""
    if not isinstance(patching, Patching):
        return patching
    base, other = (
        replace(run, attention_outputs=[], attention_writes=[], mlp_inputs=[])
        for run in (patching.base, patching.other)
    )
    return replace(patching, base=base, other=other)
