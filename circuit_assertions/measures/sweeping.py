"""Sweeps: passes that a measure takes before its own, to search or to rank, over prompts that it is not read on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from circuit_assertions.engine import MeasuringError, Model, Pass, PassCache, Wanted
from circuit_assertions.measures.head_sets import HeadSet
from circuit_assertions.measures.replacing import whole_and_without
from circuit_assertions.tasks import PromptSet

__all__ = ["HALVED", "KNOCKOUT", "NotFiniteError", "Ranking", "Sweep"]

Array = NDArray[np.float64]

KNOCKOUT = Wanted(patching=True, whole_templates=True)
HALVED = 32  # prompts from which on they are searched and read in halves

Ranking = Literal["path-effect", "total-effect"]


class NotFiniteError(MeasuringError):
    """What was read holds NaN or infinity."""


@dataclass
class Sweep:
    """The prompts of a task that may be searched, passed over as often as it takes.

    Captured runs are kept from one sweep to the next where they fit. Where they do not, taking them again costs little
    compared with the ablations of a sweep. Results are kept for every measure that needs them.

    Attributes:
        to_read: indices of the prompts that are left for reading; of all prompts where there are too few.
        everyone: all prompts of the task, those that are left for reading too.
        progress: told how many of the prompts of a sweep are done.
    """

    model: Model
    prompts: PromptSet
    to_read: tuple[int, ...]
    everyone: PromptSet
    progress: Callable[[int, int], None] = lambda done, total: None
    _means: dict[tuple[str, HeadSet], float] = field(default_factory=dict)
    _effects: dict[str, Array] = field(default_factory=dict)
    _kept: PassCache = field(default_factory=PassCache, repr=False)

    @classmethod
    def of(cls, model: Model, prompts: PromptSet, progress: Callable[[int, int], None]) -> Sweep:
        """Over one half of the prompts, the other half to be read; both over all of them, where they are few.

        What was searched for its largest value is large on the prompts of the search by chance too, and so is read on
        others. With fewer than `HALVED` prompts the bias upwards is the smaller evil.
        """
        all_of_them = tuple(range(len(prompts)))
        searched, to_read = prompts.halves() if len(prompts) >= HALVED else (all_of_them, all_of_them)
        return cls(model, prompts.some(searched), to_read, prompts, progress)

    def means(self, sets: Sequence[HeadSet], ablation: str) -> list[float]:
        """Mean logit difference with the heads of each set ablated together, over all prompts of the sweep.

        Raises:
            NotFiniteError: if one of them is NaN or infinite.
        """
        new = [heads for heads in dict.fromkeys(sets) if (ablation, heads) not in self._means]
        if new:
            left = self._over_prompts(lambda taken: whole_and_without(taken, new, ablation)[:, 1:])  # [prompts, sets]
            self._means.update({(ablation, heads): float(mean) for heads, mean in zip(new, left.mean(0), strict=True)})
        return [self._means[ablation, heads] for heads in sets]

    def effects(self, ranked_by: Ranking) -> Array:
        """Mean effect of every head of the model, in order, on the logits [heads]."""
        everyone = list(self.model.layout.all_heads())

        def read(taken: Pass) -> Tensor:
            assert taken.patching is not None
            if ranked_by == "total-effect":
                return taken.patching.total(everyone).T
            return taken.patching.to_logits(everyone, "through-mlps").T

        if ranked_by not in self._effects:
            self._effects[ranked_by] = self._over_prompts(read).mean(axis=0)
        return self._effects[ranked_by]

    def _over_prompts(self, read: Callable[[Pass], Tensor]) -> Array:
        """What is read from each pass [prompts, columns], for all prompts in their order."""
        rows: dict[int, Array] = {}
        for taken in self._passes():
            values = read(taken).double().cpu().numpy()
            rows.update(zip(taken.indices, values, strict=True))
        columns: Array = np.stack([rows[index] for index in range(len(self.prompts))])
        if not np.isfinite(columns).all():
            raise NotFiniteError
        return columns

    def _passes(self) -> Iterator[Pass]:
        done = 0
        for taken in self._kept.run("searched", self.model, self.prompts, KNOCKOUT):
            self.progress(done, len(self.prompts))
            yield taken
            done += len(taken.indices)
        self.progress(done, len(self.prompts))
