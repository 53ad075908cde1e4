"""What the search for an origin measures with: grafts both ways, on prompts that search, choose or report."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from circuit_assertions.components import Embedding, Mlp, Norms, Part, Unembedding
from circuit_assertions.heads import Head
from circuit_assertions.measures.figures import Array, Figure, share_of
from circuit_assertions.measures.intervals import Level
from circuit_assertions.ordering import ranked
from circuit_assertions.policy import Policy
from circuit_assertions.tasks import PromptSet

if TYPE_CHECKING:
    from circuit_assertions.engine import Model
    from circuit_assertions.engine.grafting import Grafting

__all__ = ["Grafts", "sorted_parts"]

_KINDS = (Embedding, Head, Norms, Mlp, Unembedding)  # in the order of a layer


def sorted_parts(parts: Collection[Part]) -> list[Part]:
    """Parts in the order of the model."""
    return sorted(
        parts, key=lambda part: (part.layer, _KINDS.index(type(part)), part.head if isinstance(part, Head) else 0)
    )


@dataclass
class Grafts:
    """Grafts between a model and its baseline on some prompts; each set of parts is tried once."""

    model: Model
    baseline: Model
    prompts: PromptSet
    policy: Policy
    _regained: dict[frozenset[Part], Array] = field(default_factory=dict)

    @cached_property
    def healing(self) -> Grafting:
        """The baseline's parts into the model."""
        return self._grafting(self.model, self.baseline)

    @cached_property
    def breaking(self) -> Grafting:
        """The model's parts into the baseline."""
        return self._grafting(self.baseline, self.model)

    def _grafting(self, into: Model, source: Model) -> Grafting:
        from circuit_assertions.engine.grafting import Grafting

        return Grafting(into, source, self.prompts)

    @cached_property
    def now(self) -> Array:
        """The model's logit difference [prompts]."""
        now: Array = self.healing.difference().numpy()
        return now

    @cached_property
    def then(self) -> Array:
        """The baseline's logit difference [prompts]."""
        then: Array = self.breaking.difference().numpy()
        return then

    @property
    def lost(self) -> Array:
        """Logit difference that the model has less than the baseline [prompts]."""
        return self.then - self.now

    def shares(self, parts: Collection[Part]) -> Array:
        """What a set of the baseline's parts restores, as shares of what is lost [prompts]."""
        key = frozenset(parts)
        if key not in self._regained:
            self._regained[key] = self.healing.difference(sorted_parts(key)).numpy() - self.now
        return share_of(self._regained[key], self.lost)

    def healed(self, parts: Collection[Part]) -> float:
        """Share of what is lost that a set of the baseline's parts restores."""
        return float(self.shares(parts).mean())

    def broken(self, part: Part, together: int) -> Figure:
        """Share of what is lost that a part of the model alone costs the baseline.

        Args:
            together: how many parts are tried.
        """
        return self.figure(share_of(self.then - self.breaking.difference([part]).numpy(), self.lost), together)

    def figure(self, values: Array, together: int = 1) -> Figure:
        """The figure of values [prompts].

        Args:
            together: how many intervals share the level of this run with it.
        """
        return Figure.of_values(values, Level.of_figures(self.policy).among(together))

    def promising(self, parts: Sequence[Part], most: int) -> list[Part]:
        """Those parts that matter most to first order, alone, in either direction.

        Large damage can reverse the sign of a slope, so only its size counts.
        """
        if len(parts) <= most:
            return list(parts)
        from circuit_assertions.engine.slopes import slopes

        heals = slopes(self.model, self.baseline, self.prompts, parts)
        breaks = slopes(self.baseline, self.model, self.prompts, parts)
        return ranked(sorted_parts(parts), lambda part: max(abs(heals[part]), abs(breaks[part])))[:most]

    def like(self, parts: Collection[Part], seed: int) -> list[Part]:
        """A random set of as many other parts: of the same kinds and layers, as far as there are others."""
        drawn = random.Random(seed)
        chosen: list[Part] = []
        for part in sorted_parts(parts):
            others = [other for other in self.healing.parts if other not in parts and other not in chosen]
            alike = [other for other in others if type(other) is type(part)]
            near = [other for other in alike if other.layer == part.layer]
            if others:
                chosen.append(drawn.choice(near or alike or others))
        return chosen
