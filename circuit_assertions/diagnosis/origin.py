"""The origin of a change: whose own weights did it. Weight grafts between two checkpoints of one shape.

A part of the model put into the baseline breaks it or does not; parts of the baseline put into the model heal it or do
not. The damage is LOCALIZED where few parts heal and random ones like them do not; DIFFUSE otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from circuit_assertions.components import Embedding, Mlp, Norms, Part, Unembedding
from circuit_assertions.diagnosis.figures import Array, Figure, has_lost, share_of
from circuit_assertions.engine import Model
from circuit_assertions.engine.grafting import Grafting
from circuit_assertions.heads import Head
from circuit_assertions.tasks import PromptSet

__all__ = ["HEALS", "Healing", "Origin", "find_origin"]

HEALS = 0.9  # of the difference between model and baseline, for a set to be called the origin
_MATTERS = 0.03  # of it, for one part to belong to such a set
_FEW = 1 / 8  # of all parts: what LOCALIZED calls few, and at least
_FEW_AT_LEAST = 3
_REMOVABLE = 12  # changed parts up to which a set is found by taking parts away, which sees what works only together
_TRIED = 12  # parts that each step of the greedy search tries
_RANDOM_SETS = 10


@dataclass(frozen=True)
class Healing:
    """A set of parts, grafted from the baseline into the model.

    Attributes:
        healed: share of the difference that comes back, on prompts that had no say in the choice.
        values: the shares whose mean is `healed` [every second prompt].
        random: what random sets of as many parts of the same kinds and layers bring back, on average; None where the
            model has no others.
    """

    parts: tuple[Part, ...]
    healed: Figure
    random: float | None = None
    values: Array = field(default_factory=lambda: np.empty(0), repr=False, compare=False)


@dataclass(frozen=True)
class Origin:
    """Where a change comes from.

    Attributes:
        verdict: UNCHANGED where no weight differs, or less than a tenth of the behaviour is lost.
        changed: the parts whose weights differ, of `parts` in all.
        breaks: share of the loss that each changed part alone brings to the baseline.
        curve: greedy sets, smallest first; the last is the one that the verdict is about.
        groups: what all heads, all MLPs, all norms and the embeddings heal, each together.
    """

    verdict: Literal["LOCALIZED", "DIFFUSE", "UNCHANGED"]
    parts: int
    changed: tuple[Part, ...] = ()
    breaks: Mapping[Part, Figure] = field(default_factory=dict)
    curve: tuple[Healing, ...] = ()
    groups: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def few(self) -> int:
        """How many parts LOCALIZED may take."""
        return _few(self.parts)

    @property
    def found(self) -> Healing | None:
        """The set that heals, where one was found."""
        return self.curve[-1] if self.curve else None


def _few(parts: int) -> int:
    return max(_FEW_AT_LEAST, round(_FEW * parts))


@dataclass
class _Lab:
    """The two ways of grafting, and which prompts search and which confirm."""

    breaking: Grafting
    healing: Grafting
    search: NDArray[np.int64]
    confirm: NDArray[np.int64]
    tell: Callable[[str, int, int], None]
    seen: dict[frozenset[Part], Array] = field(default_factory=dict)

    @cached_property
    def lost(self) -> Array:
        """Logit difference that the model has less than the baseline [prompts]."""
        lost: Array = self.breaking.difference().numpy() - self.healing.difference().numpy()
        return lost

    @cached_property
    def model(self) -> Array:
        own: Array = self.healing.difference().numpy()
        return own

    def regained(self, parts: Collection[Part]) -> Array:
        """Logit difference regained by a set of the baseline's parts [prompts]."""
        key = frozenset(parts)
        if key not in self.seen:
            self.seen[key] = self.healing.difference(sorted_parts(key)).numpy() - self.model
        return self.seen[key]

    def score(self, parts: Collection[Part]) -> float:
        """Share healed on the prompts that the search may see."""
        return float(self.regained(parts)[self.search].mean() / self.lost[self.search].mean())

    def healed(self, parts: Collection[Part]) -> Figure:
        """Share healed on the prompts that it may not see."""
        return Figure.of_values(self.shares(parts))

    def shares(self, parts: Collection[Part]) -> Array:
        """The same for each of these prompts, as shares whose mean it is [prompts that confirm]."""
        return share_of(self.regained(parts)[self.confirm], self.lost[self.confirm])


def sorted_parts(parts: Collection[Part]) -> list[Part]:
    """Parts in the order of the model."""
    kinds = (Embedding, Head, Norms, Mlp, Unembedding)
    return sorted(
        parts, key=lambda part: (part.layer, kinds.index(type(part)), part.head if isinstance(part, Head) else 0)
    )


def find_origin(
    model: Model,
    baseline: Model,
    prompts: PromptSet,
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Origin:
    """Find whose weights made the model lose what the baseline has.

    Args:
        prompts: half of them search, half confirm.
        tell: what is being tried, and how far that is.

    Raises:
        MeasuringError: if the two models have other shapes.
    """
    healing = Grafting(model, baseline, prompts)
    count = len(healing.parts)
    changed = healing.changed
    if not changed:
        return Origin("UNCHANGED", count)
    rows = np.arange(len(prompts))
    lab = _Lab(Grafting(baseline, model, prompts), healing, rows[::2], rows[1::2], tell)
    if not has_lost(lab.model + lab.lost, lab.model):
        return Origin("UNCHANGED", count, changed)
    breaks = _breaks(lab, changed)
    sets = _by_taking_away(lab, changed) if len(changed) <= _REMOVABLE else _by_adding(lab, changed, _few(count) + 2)
    curve = [Healing(tuple(sorted_parts(parts)), lab.healed(parts), values=lab.shares(parts)) for parts in sets]
    if curve:
        curve[-1] = _beside_random(lab, curve[-1])
    return Origin(_verdict(curve, count), count, changed, breaks, tuple(curve), _groups(lab, changed))


def _verdict(curve: Sequence[Healing], count: int) -> Literal["LOCALIZED", "DIFFUSE"]:
    if not curve or len(curve[-1].parts) > _few(count) or curve[-1].healed.mean < HEALS:
        return "DIFFUSE"
    by_chance = curve[-1].random
    return "LOCALIZED" if by_chance is None or by_chance < HEALS / 2 else "DIFFUSE"


def _breaks(lab: _Lab, changed: Sequence[Part]) -> dict[Part, Figure]:
    """Share of the loss that each part alone brings to the baseline."""
    whole = lab.breaking.difference().numpy()
    breaks = {}
    for number, part in enumerate(changed):
        lab.tell("what each part breaks", number, len(changed))
        breaks[part] = Figure.of_values(share_of(whole - lab.breaking.difference([part]).numpy(), lab.lost))
    lab.tell("what each part breaks", len(changed), len(changed))
    return breaks


def _by_taking_away(lab: _Lab, changed: Sequence[Part]) -> list[list[Part]]:
    """From all changed parts, which heal everything, take away what does not matter; then order what is left."""
    kept = list(changed)
    while len(kept) > 1:
        least = min(kept, key=lambda part: lab.score(kept) - lab.score([other for other in kept if other != part]))
        without = [other for other in kept if other != least]
        if lab.score(kept) - lab.score(without) >= _MATTERS:
            break
        kept = without
    return _prefixes(lab, kept)


def _by_adding(lab: _Lab, changed: Sequence[Part], most: int) -> list[list[Part]]:
    """Add the part that heals most, as long as one matters. Later steps try the best of the first."""
    alone = {part: lab.score([part]) for part in _telling(lab, changed)}
    tried = sorted(alone, key=lambda part: -alone[part])[:_TRIED]
    kept: list[Part] = []
    reached, sets = 0.0, []
    while len(kept) < min(most, len(changed)):
        rest = [part for part in tried if part not in kept]
        lab.tell("what heals together", len(kept), most)
        if not rest:
            break
        best = max(rest, key=lambda part: lab.score([*kept, part]))
        gained = lab.score([*kept, best]) - reached
        if gained < _MATTERS:
            break
        kept, reached = [*kept, best], reached + gained
        sets.append(list(kept))
    lab.tell("what heals together", most, most)
    return sets


def _telling(lab: _Lab, parts: Sequence[Part]) -> Sequence[Part]:
    for number, part in enumerate(parts):
        lab.tell("what each part heals", number, len(parts))
        lab.score([part])
    lab.tell("what each part heals", len(parts), len(parts))
    return parts


def _prefixes(lab: _Lab, parts: Sequence[Part]) -> list[list[Part]]:
    """The parts of a set, the one that heals most first, and so on: the set's sizes 1 to all."""
    kept: list[Part] = []
    sets = []
    while len(kept) < len(parts):
        rest = [part for part in parts if part not in kept]
        kept = [*kept, max(rest, key=lambda part: lab.score([*kept, part]))]
        sets.append(list(kept))
    return sets


def _beside_random(lab: _Lab, healing: Healing) -> Healing:
    """What sets of as many parts of the same kinds, in the same layers where there are others, heal on average."""
    rng = random.Random(0)
    everyone = [part for part in lab.healing.parts if part not in healing.parts]
    healed = []
    for number in range(_RANDOM_SETS):
        lab.tell("random sets", number, _RANDOM_SETS)
        drawn: list[Part] = []
        for part in healing.parts:
            alike = [other for other in everyone if type(other) is type(part) and other not in drawn]
            near = [other for other in alike if other.layer == part.layer]
            if alike:
                drawn.append(rng.choice(near or alike))
        if len(drawn) == len(healing.parts):
            healed.append(float(lab.regained(drawn)[lab.confirm].mean() / lab.lost[lab.confirm].mean()))
    lab.tell("random sets", _RANDOM_SETS, _RANDOM_SETS)
    return replace(healing, random=float(np.mean(healed)) if healed else None)


def _groups(lab: _Lab, changed: Sequence[Part]) -> dict[str, Figure]:
    kinds: dict[str, tuple[type, ...]] = {
        "all heads": (Head,),
        "all MLPs": (Mlp,),
        "all norms": (Norms,),
        "embeddings": (Embedding, Unembedding),
    }
    members = {name: [part for part in changed if isinstance(part, kind)] for name, kind in kinds.items()}
    return {name: lab.healed(parts) for name, parts in members.items() if parts}
