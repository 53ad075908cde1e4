"""A batch of prompts and their counterfactuals, each run once: what every way of patching starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self

import torch
from torch import Tensor

from circuit_assertions.engine.arithmetic import Projection, raw
from circuit_assertions.engine.cache import Run
from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.module_calls import apply_norm
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END, Prompt

__all__ = ["Direction", "Pair"]

Direction = Literal["counterfactual-into-clean", "clean-into-counterfactual"]


@dataclass(frozen=True)
class Pair:
    """Prompts of equal length and their counterfactuals.

    Attributes:
        base: the run that is patched, and `other` the run that values are taken from.
    """

    model: Model
    prompts: tuple[Prompt, ...]
    base: Run
    other: Run
    direction: Direction = "counterfactual-into-clean"

    def towards(self, direction: Direction) -> Self:
        """The same two runs, patched in this direction."""
        if direction == self.direction:
            return self
        return replace(self, base=self.other, other=self.base, direction=direction)

    def check_receivers(self, receivers: Sequence[Head]) -> None:
        """Refuse receivers that the model has not: nothing would reach them, and an effect of 0 would be read.

        Raises:
            MeasuringError: naming the first of them, or if there is none at all.
        """
        shape = self.model.shape
        if not receivers:
            raise MeasuringError("no head is given to receive: name at least one")
        for head in receivers:
            if not shape.has(head):
                raise MeasuringError(f"there is no head {head} to receive: the model has {shape.extent}")

    @staticmethod
    def check_reaches_end(which: Projection, at: str) -> None:
        """Refuse queries that no output at `end` is made of.

        Raises:
            MeasuringError: saying where they have to be.
        """
        if which == "q" and at != END:
            raise MeasuringError(f"what heads write at {END!r} is made with their query there, not at {at!r}")

    def places(self, label: str) -> tuple[int, ...]:
        """Where each prompt has `label`, known without asking a device."""
        return tuple(prompt.positions[label] for prompt in self.prompts)

    def positions(self, label: str) -> Tensor:
        """Where each prompt has `label` [prompts]."""
        return torch.tensor(self.places(label), device=self.model.device)

    def start(self, at: str | None) -> int | None:
        """The first position that has to be computed where a change is made at a position, or at all.

        None where every prompt is read before anything changes. A prompt that is read earlier than others are changed
        needs its row all the same.
        """
        changed, ends = self.first_difference if at is None else min(self.places(at)), self.places(END)
        return min(changed, *ends) if changed <= max(ends) else None

    def at_end(self, rows: Tensor) -> Tensor:
        """Rows [..., prompts, positions, d_model] at `end` [..., prompts, d_model]."""
        prompts = torch.arange(len(self.prompts), device=rows.device)
        return rows[..., prompts, self.positions(END), :]

    def difference_of(self, rows: Tensor) -> Tensor:
        """The answer metric of final residual rows at `end` [..., prompts, d_model] -> [..., prompts]."""
        return self.model.readout.difference(rows, self.prompts)

    def effect_of(self, rows: Tensor) -> Tensor:
        """Signed effects of patched final rows at `end` [..., prompts, d_model] -> [..., prompts].

        Positive pushes towards the right answer, whichever run is patched.
        """
        return self.signed(self.difference - self.difference_of(rows))

    def signed(self, lost: Tensor) -> Tensor:
        """What the patched run loses of something as what the clean run has more of it, whichever run is patched."""
        return lost if self.direction == "counterfactual-into-clean" else -lost

    def changed_write(self, layer: int, heads: Tensor, outputs: Tensor) -> Tensor:
        """What a block's attention adds more at `end` when some of its heads put out something else there.

        Args:
            heads: their indices in the block [heads].
            outputs: what they put out [..., prompts, heads, d_head].

        Returns:
            [..., prompts, d_model]; a post-norm on the attention output, where there is one, is recomputed.
        """
        layout, base = self.model.layout, self.base
        prompts = torch.arange(len(self.prompts), device=outputs.device)
        before = base.head_outputs[layer][prompts, self.positions(END)][:, heads]  # [prompts, heads, d_head]
        weights = layout.W_O(layer)[heads.tolist()].to(outputs)
        changed = torch.einsum("...phd,hdm->...pm", outputs - before, weights)
        post_norm = raw(layout.attention_post_norm(layer))
        written = apply_norm(post_norm, self.at_end(base.attention_outputs[layer]) + changed)
        return written - self.at_end(base.attention_writes[layer])

    @cached_property
    def first_difference(self) -> int:
        """The first position where any prompt differs from its counterfactual; before it, patching changes nothing."""
        differ = (self.base.tokens != self.other.tokens).any(dim=0).nonzero()
        return int(differ[0]) if len(differ) else 0  # the same prompts, read by two models: they may differ anywhere

    @cached_property
    def difference(self) -> Tensor:
        """The answer metric of the base run at `end` [prompts]."""
        return self.difference_of(self.at_end(self.base.final))
