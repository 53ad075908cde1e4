"""The origin of a change: whose own weights did it. Weight grafts between two checkpoints of one shape.

A part of the model put into the baseline breaks it or does not; parts of the baseline put into the model restore it or
do not. The damage is LOCALIZED where few parts restore it and matched random parts do not; DIFFUSE otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from circuit_assertions.components import Embedding, Mlp, Norms, Part, Unembedding
from circuit_assertions.diagnosis.graft_search import Grafts, sorted_parts
from circuit_assertions.heads import Head
from circuit_assertions.measures.figures import Array, Figure, has_lost
from circuit_assertions.ordering import ranked
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.tasks import PromptSet
from circuit_assertions.verdict_words import OriginVerdict

if TYPE_CHECKING:
    from circuit_assertions.engine import Model

__all__ = ["Healing", "Origin", "find_origin"]


@dataclass(frozen=True)
class Healing:
    """A set of parts, grafted from the baseline into the model.

    Attributes:
        healed: the share of the difference that is restored, on the prompts that report. These have chosen nothing.
        values: the shares whose mean is `healed`, one for each of these prompts.
        on_choice: the share that is restored on the prompts by which one of several sets is chosen.
        random: what random sets of as many parts of the same kinds and layers restore, on average; its interval is
            over prompts, for these sets. None where the model has too few others.
    """

    parts: tuple[Part, ...]
    healed: Figure
    random: Figure | None = None
    values: Array = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    on_choice: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Origin:
    """Where a change comes from.

    Attributes:
        verdict: UNCHANGED where no weight differs, or no loss that is large enough is certain.
        changed: the parts whose weights differ, of `parts` in all.
        breaks: share of the loss that a changed part alone brings to the baseline, for those that were tried.
        curve: sets that restore, smallest first; the last is the one that the verdict is about.
        groups: what all heads, all MLPs, all norms and the embeddings restore, each together.
        choosing, reporting: the prompts, by index, that decide between sets, and those that curve and groups are read
            on; the others searched.
        few: how many parts LOCALIZED may take.
    """

    verdict: OriginVerdict
    parts: int
    changed: tuple[Part, ...] = ()
    breaks: Mapping[Part, Figure] = field(default_factory=dict)
    curve: tuple[Healing, ...] = ()
    groups: Mapping[str, Figure] = field(default_factory=dict)
    choosing: tuple[int, ...] = ()
    reporting: tuple[int, ...] = ()
    few: int = 0

    @property
    def found(self) -> Healing | None:
        """The set that restores the behaviour, where one was found."""
        return self.curve[-1] if self.curve else None


def _few(parts: int, policy: Policy) -> int:
    """How many parts LOCALIZED may take."""
    return max(policy.origin_few_at_least, round(policy.origin_few * parts))


def find_origin(
    model: Model,
    baseline: Model,
    prompts: PromptSet,
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
    search: bool = True,
    policy: Policy = DEFAULT,
) -> Origin:
    """Find whose weights made the model lose what the baseline has.

    Args:
        prompts: a third of them search, a third choose how far a set is widened, a third report.
        tell: what is being tried, and how far that is.
        search: whether to look for an origin at all; else only what differs is told.
        policy: the thresholds of the verdict, and how much is tried.

    Raises:
        MeasuringError: if the two models have other shapes.
    """
    tell("what each component breaks and restores", 0, 1)
    from circuit_assertions.engine.grafting import Grafting

    everything = Grafting(model, baseline, prompts)
    count, changed = len(everything.parts), everything.changed
    few = _few(count, policy)
    if not changed or not search:
        return Origin(OriginVerdict.UNCHANGED, count, changed, few=few)
    rows = prompts.shared_out(3)
    thirds = search_by, choose, report = [Grafts(model, baseline, prompts.some(one), policy) for one in rows]
    then, now = (np.concatenate([getattr(third, when) for third in thirds]) for when in ("then", "now"))
    if not has_lost(then, now, policy):
        return Origin(OriginVerdict.UNCHANGED, count, changed, few=few)
    searching = _Search(search_by, few, tell)
    sets = searching.sets(changed)
    needed = searching.matters if len(changed) > few else None  # of few that differ, each is at fault
    sets += _put_back(search_by, choose, sets, searching.taken_away, few, needed)
    curve = [_healing(choose, report, parts, len(sets)) for parts in sets]
    if curve:
        curve[-1] = replace(curve[-1], random=_by_chance(report, sets[-1], tell))
    verdict = _verdict(curve, few, policy)
    groups = _groups(report, changed)
    return Origin(verdict, count, changed, searching.breaks, tuple(curve), groups, rows[1], rows[2], few)


def _put_back(
    search: Grafts,
    choose: Grafts,
    sets: Sequence[list[Part]],
    taken_away: Sequence[Part],
    few: int,
    matters: float | None,
) -> list[list[Part]]:
    """Larger sets, where the last one heals enough on the prompts of the search alone; none if no few parts will do.

    What was taken away comes back, what heals most on the search first, until the prompts that choose bear the set out.

    Args:
        matters: share of what is lost that a part must heal on these to come back; None for whatever.
    """
    larger, spare = [], list(taken_away)
    kept = sets[-1] if sets else []
    while choose.healed(kept) < choose.policy.origin_restores:
        if not spare or not kept or len(kept) >= few:
            return []
        healed = {part: search.healed([*kept, part]) for part in spare}
        best = ranked(spare, healed.__getitem__)[0]
        if matters is not None and choose.healed([*kept, best]) - choose.healed(kept) < matters:
            return []
        spare.remove(best)
        kept = [*kept, best]
        larger.append(kept)
    return larger


def _healing(choose: Grafts, report: Grafts, parts: Sequence[Part], together: int) -> Healing:
    """What one of several sets restores; their intervals hold together."""
    shares = report.shares(parts)
    return Healing(
        tuple(sorted_parts(parts)), report.figure(shares, together), values=shares, on_choice=choose.healed(parts)
    )


def _verdict(curve: Sequence[Healing], few: int, policy: Policy) -> OriginVerdict:
    enough = policy.origin_restores
    if not curve or len(curve[-1].parts) > few or curve[-1].healed.mean < enough:
        return OriginVerdict.DIFFUSE
    by_chance = curve[-1].random
    restored_by_chance = by_chance is not None and by_chance.mean >= policy.origin_random_below * enough
    return OriginVerdict.DIFFUSE if restored_by_chance else OriginVerdict.LOCALIZED


@dataclass
class _Search:
    """The search for a set that heals, on the prompts that may be looked at for it."""

    grafts: Grafts
    few: int
    tell: Callable[[str, int, int], None]
    breaks: dict[Part, Figure] = field(default_factory=dict)
    taken_away: tuple[Part, ...] = ()

    @cached_property
    def matters(self) -> float:
        """Share of what is lost that a part must heal to belong to a set."""
        policy, behaviour = self.grafts.policy, float(self.grafts.then.mean() / self.grafts.lost.mean())
        return max(policy.origin_part_restores, policy.origin_part_of_behaviour * behaviour)

    def sets(self, changed: Sequence[Part]) -> list[list[Part]]:
        """Sets of growing size, the last the one that heals, or comes nearest to it."""
        tried = self._by_promise(changed)
        candidates = tried[: max(self.grafts.policy.origin_removable, self.few)]
        if self.grafts.healed(candidates) >= self.grafts.policy.origin_restores:
            needed = self._necessary(candidates)
            self.taken_away = tuple(part for part in candidates if part not in needed)
            return self._one_by_one(needed)
        return self._one_by_one(tried, self.few + 2)

    def _by_promise(self, changed: Sequence[Part]) -> list[Part]:
        """Parts by what each alone heals in the model or breaks in the baseline, whichever is more.

        Where one fault hides another, healing either alone shows nothing, and breaking does.
        """
        chosen = self.grafts.promising(changed, self.grafts.policy.origin_tried)
        promise = {}
        for number, part in enumerate(chosen):
            self.tell("what each component breaks and restores", number, len(chosen))
            self.breaks[part] = self.grafts.broken(part, len(chosen))
            promise[part] = max(self.breaks[part].mean, self.grafts.healed([part]))
        self.tell("what each component breaks and restores", len(chosen), len(chosen))
        return ranked(chosen, promise.__getitem__)

    def _necessary(self, candidates: Sequence[Part]) -> list[Part]:
        """From parts that heal together, take away what does not matter, least promise first; the rest still heals."""
        kept, enough = list(candidates), self.grafts.policy.origin_restores
        for number, part in enumerate(reversed(candidates)):
            self.tell("which components are not needed", number, len(candidates))
            rest = [other for other in kept if other != part]
            healed = self.grafts.healed(rest) if rest else 0.0
            if healed >= enough and self.grafts.healed(kept) - healed < self.matters:
                kept = rest
        self.tell("which components are not needed", len(candidates), len(candidates))
        return kept

    def _one_by_one(self, parts: Sequence[Part], most: int | None = None) -> list[list[Part]]:
        """Sets that grow by the part that heals most: by all parts, or by as many at most, as long as each matters.

        What a part added last time it was tried is taken for what it may add; so few are tried again at each step.
        """
        gains = {part: self.grafts.healed([part]) for part in parts}
        fresh = set(parts)  # those tried beside what is kept now
        kept: list[Part] = []
        sets = []
        while gains and (most is None or len(kept) < most):
            best = ranked(gains, gains.__getitem__)[0]
            if best not in fresh:
                gains[best] = self.grafts.healed([*kept, best]) - self.grafts.healed(kept)
                fresh.add(best)
                continue
            if most is not None and gains[best] < self.matters:
                break
            del gains[best]
            kept = [*kept, best]
            sets.append(kept)
            fresh = set()
            self.tell("what components restore together", len(kept), most or len(parts))
        return sets


def _by_chance(report: Grafts, parts: Sequence[Part], tell: Callable[[str, int, int], None]) -> Figure | None:
    """What random sets of as many parts like these heal on average."""
    healed, count = [], report.policy.origin_random_sets
    for number in range(count):
        tell("matched random sets", number, count)
        drawn = report.like(parts, number)
        if len(drawn) == len(parts):
            healed.append(report.shares(drawn))
    tell("matched random sets", count, count)
    return report.figure(np.mean(healed, axis=0)) if healed else None


def _groups(report: Grafts, changed: Sequence[Part]) -> dict[str, Figure]:
    kinds: dict[str, tuple[type, ...]] = {
        "all heads": (Head,),
        "all MLPs": (Mlp,),
        "all norms": (Norms,),
        "embeddings": (Embedding, Unembedding),
    }
    members = {name: [part for part in changed if isinstance(part, kind)] for name, kind in kinds.items()}
    return {name: report.figure(report.shares(parts), len(members)) for name, parts in members.items() if parts}
