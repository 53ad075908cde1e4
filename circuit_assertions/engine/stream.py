"""The residual stream leaving a block: read on rows of tokens, and changed while a model reads on or writes.

A change is a function of the stream [texts, positions, d_model]. The bridge shares its weights with the checkpoint that
was opened, and no weight is written to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.engine.model import Model
from circuit_assertions.engine.ordinary import losses_of_rows, next_tokens
from circuit_assertions.engine.readout import unrounded

__all__ = ["Adding", "Change", "Replacing", "Stream", "Without"]

_TOKENS = 1024  # of one forward pass

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Adding:
    """Adds a vector at every position from `first` on: the same for all texts [d_model], or one for each text."""

    vector: Tensor
    first: int = 0

    def __call__(self, stream: Tensor) -> Tensor:
        """The stream with the vector added [texts, positions, d_model]."""
        changed = stream.clone()
        vector = self.vector.to(stream)
        changed[:, self.first :] += vector[:, None] if vector.ndim > 1 else vector
        return changed


@dataclass(frozen=True)
class Replacing:
    """Puts a vector in the place of the last position's: the same for all texts [d_model], or one each."""

    vector: Tensor

    def __call__(self, stream: Tensor) -> Tensor:
        """The stream with the vector at the end [texts, positions, d_model]."""
        changed = stream.clone()
        changed[:, -1] = self.vector.to(stream)  # broadcast where it is the same for all
        return changed


@dataclass(frozen=True)
class Without:
    """Replaces the component along a unit vector [d_model] by that of another model's stream.

    Attributes:
        other: of the same texts [texts, positions, d_model].
    """

    unit: Tensor
    other: Tensor

    def __call__(self, stream: Tensor) -> Tensor:
        """The stream with the other model's component [texts, positions, d_model]."""
        unit = self.unit.to(stream)
        apart = (stream - self.other.to(stream)) @ unit  # [texts, positions]
        return stream - apart[..., None] * unit


@dataclass(frozen=True)
class Stream:
    """The residual stream of a model after one of its blocks."""

    model: Model
    layer: int

    @cached_property
    def _hook(self) -> str:
        return self.model.layout.residual_after(self.layer)

    @torch.no_grad()
    def after_blocks(self, tokens: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """What leaves some blocks, of rows that fit into one pass: each [texts, positions, d_model], float64, CPU."""
        kept = dict[int, Tensor]()

        def keep(layer: int) -> Callable[[Tensor, Any], None]:
            def see(value: Tensor, hook: Any) -> None:
                kept[layer] = value.detach().double().cpu()

            return see

        hooks = [(self.model.layout.residual_after(layer), keep(layer)) for layer in layers]
        self.model.bridge.run_with_hooks(tokens.to(self.model.device), fwd_hooks=hooks)
        return [kept[layer] for layer in layers]

    @torch.no_grad()
    def logits(self, tokens: Tensor, change: Change | None = None) -> Tensor:
        """Logits of rows [texts, positions, d_vocab], with the stream changed where a change is given."""

        def put(value: Tensor, hook: Any) -> Tensor:
            assert change is not None
            return change(value)

        hooks = [] if change is None else [(self._hook, put)]
        logits: Tensor = self.model.bridge.run_with_hooks(tokens.to(self.model.device), fwd_hooks=hooks)
        return unrounded(logits)

    def losses(self, tokens: Tensor, change: Callable[[slice], Change] | None = None, first: int = 1) -> Tensor:
        """Cross-entropy of each text in nats, the mean over its tokens from `first` on [texts], float64 on the CPU.

        Args:
            tokens: [texts, positions]
            change: of the texts of a pass, which it is told as a slice.
        """
        found = list[Tensor]()
        for piece in pieces(tokens):
            some = tokens[piece].to(self.model.device)
            logits = self.logits(some, None if change is None else change(piece))
            found.append(losses_of_rows(logits, some, first))
        return torch.cat(found)

    def said(self, tokens: Tensor, changes: Callable[[Tensor], Change], vectors: Tensor, last: bool = False) -> Tensor:
        """Mean log-probability of each token of the vocabulary, over texts and positions, float64 on the CPU.

        Args:
            tokens: [texts, positions]
            changes: the change that vectors [rows, d_model] make, one for each row.
            vectors: each is tried on all texts [vectors, d_model].
            last: whether only the last position counts; otherwise all but the first.

        Returns:
            [vectors, d_vocab]
        """
        together = max(1, _TOKENS // tokens.numel())
        found = list[Tensor]()
        for start in range(0, len(vectors), together):
            some = vectors[start : start + together]
            rows = some.repeat_interleave(len(tokens), dim=0)  # [rows, d_model]
            logits = self.logits(tokens.repeat(len(some), 1), changes(rows))
            spoken = (logits[:, -1:] if last else logits[:, 1:]).log_softmax(dim=-1)
            found.append(spoken.reshape(len(some), -1, spoken.shape[-1]).double().mean(dim=1).cpu())
        return torch.cat(found)

    def written(self, starts: Tensor, length: int, seed: int, change: Change | None = None) -> Tensor:
        """Texts that the model writes on from their starts, at temperature 1 [texts, length], on the CPU.

        Args:
            starts: tokens [texts, positions].
        """
        generator = torch.Generator().manual_seed(seed)
        tokens = starts
        while tokens.shape[1] < length:
            tokens = torch.cat((tokens, next_tokens(self.logits(tokens, change), generator)), dim=1)
        return tokens


def pieces(tokens: Tensor) -> list[slice]:
    """Which rows are read in one pass, one pass after the other."""
    together = max(1, _TOKENS // tokens.shape[1])
    return [slice(start, start + together) for start in range(0, len(tokens), together)]
