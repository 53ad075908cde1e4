"""Follow a chain through a model: at every stage, heads with an effect, and the role that their function gives them.

A head gets a role only where cause and function agree: an effect whose interval, one of those of all heads at all
stages, is clear of zero and not negligible compared with the behaviour; and attention between the role's positions,
copying or scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import permutations

from circuit_assertions.assertions.chains import LOOKS, UNEXPLAINED, Chain, Groups, Rule, Stage
from circuit_assertions.diagnosis import levels
from circuit_assertions.diagnosis.discovery.criteria import Missed, nearest_of
from circuit_assertions.diagnosis.discovery.followed import Effect, Followed, Placed
from circuit_assertions.diagnosis.discovery.head_functions import functions
from circuit_assertions.diagnosis.discovery.racing import Race
from circuit_assertions.diagnosis.discovery.unnamed_starts import starts_of
from circuit_assertions.diagnosis.view import ByHead, View
from circuit_assertions.heads import Head
from circuit_assertions.measures.intervals import Level, interval_of_mean
from circuit_assertions.ordering import ranked

__all__ = ["Effect", "Followed", "Placed", "follow"]


@dataclass
class _Found:
    role: str | None = None
    effects: list[Effect] = field(default_factory=list)
    evidence: dict[str, float] = field(default_factory=dict)
    given_at: str | None = None
    given_by: Rule | None = None
    undecided: list[str] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)


def follow(
    chain: Chain,
    views: Sequence[View],
    repeated: View | None,
    least: float,
    stage: Callable[[str], None] = lambda stage: None,
    race: bool | None = None,
) -> list[Followed]:
    """Follow the chain's stages on the prompts of several views of one task, side by side, so that they share passes.

    The first view has all prompts. In the others only heads are looked for that no race on all prompts has sent away.

    Args:
        repeated: repeated random tokens on the same checkpoint, for the scores that are taken of them; None where the
            model cannot be asked for them, and no role that needs them is given.
        least: the smallest effect that counts, as a share of the logit difference.
        stage: told which stage comes next.
        race: whether heads may leave before all prompts are read; None for wherever that saves time.
    """
    runs = Race.of(chain, views[0], race)
    sides = [_Side(chain, view, repeated, least * abs(float(view.behaviour().mean())), runs) for view in views]
    _plan_what_is_known(chain, views[0], repeated, runs)
    for number, step in enumerate(chain.stages, 1):
        stage(f"step {number} of {len(chain.stages)}: {step.name}")
        for some in (sides[:1], sides[1:]) if runs.runs else (sides,):  # the first side's race goes before the others
            for side in some:
                side.plan(step)
            for side in some:
                side.look_for_effects(step)
        for side in sides:
            side.give_roles(step)
    return [side.followed() for side in sides]


def _plan_what_is_known(chain: Chain, view: View, repeated: View | None, race: Race) -> None:
    """Announce what no stage's outcome decides: the first pass over the prompts then shows it all."""
    for query, key in _pairs(view):
        view.plan("attention", query=query, key=key)
    for stage in chain.stages:
        for measure, operands in () if race.runs else stage.readings({}):
            view.plan(measure, **operands)
        if repeated is not None:
            for score in (score for rule in stage.rules for score in rule.all_scores if score.repeated):
                repeated.plan(score.measure)


def _pairs(view: View) -> list[tuple[str, str]]:
    """Every two labelled positions of the task: from where, to where a head may look."""
    return list(permutations(sorted(view.task.labels()), 2))


@dataclass
class _Side:
    """One view's way through the chain.

    Attributes:
        floor: the smallest effect that counts, in logits.
        race: the races on all prompts.
        clear: the effects of the stage that is looked at, and `means`, those of each stage so far.
        went_on_from: see `Followed`; of a stage that found nobody to go on from it has no heads.
    """

    chain: Chain
    view: View
    repeated: View | None
    floor: float
    race: Race
    found: dict[Head, _Found] = field(default_factory=dict)
    groups: dict[str, tuple[Head, ...]] = field(default_factory=dict)
    clear: dict[Head, Effect] = field(default_factory=dict)
    unclear: set[Head] = field(default_factory=set)
    means: dict[str, dict[Head, float]] = field(default_factory=dict)
    went_on_from: dict[str, tuple[Head, ...]] = field(default_factory=dict)

    def groups_for(self, stage: Stage) -> Groups:
        """What a stage may start from: where its role has no heads, those that could have it."""
        if stage.starts_from is None or self.groups.get(stage.starts_from[0]):
            return self.groups
        if stage.name not in self.went_on_from:
            named = [head for head, one in self.found.items() if one.role is not None]
            self.went_on_from[stage.name] = starts_of(self.chain, stage, self.means, named)
        return {**self.groups, stage.starts_from[0]: self.went_on_from[stage.name]}

    def plan(self, stage: Stage) -> None:
        """Announce what a stage will read."""
        groups = self.groups_for(stage)
        reads, aside = stage.readings(groups), stage.meanwhile(groups)
        for (measure, operands), heads in self.race.asks(stage, reads, self.view):
            self.view.plan(measure, heads, **operands)
        if reads and aside:
            for look in (rule.attends for rule in stage.rules):
                for key in (look.key, *look.more_than):
                    self.view.plan("attention", query=look.query, key=key, **aside)

    def look_for_effects(self, stage: Stage) -> None:
        """Find the stage's heads, and announce what their functions will be judged by."""
        self.clear, groups = {}, self.groups_for(stage)
        reads = stage.readings(groups)
        if not reads:
            return
        read = self.race.readings(stage, reads, self.view, self.floor * stage.times)
        heads = stage.judged(read[0].heads, groups)
        effects = ByHead(read[0].heads, stage.effects([one.values for one in read]))
        level = levels.of_discovery(self.view.policy, self.chain, len(self.view.all_heads))
        sizable = _sizable(stage, heads, effects, self.floor * stage.times, level)
        self.clear = {head: effect for head, effect in sizable.items() if effect.clear}
        self.unclear |= sizable.keys() - self.clear.keys()
        self.groups[stage.name] = tuple(head for head, effect in self.clear.items() if effect.mean > 0)
        for head, effect in self.clear.items():
            one = self.found.setdefault(head, _Found())
            if not stage.last_resort or not one.effects:
                one.effects.append(effect)
        for rule in stage.rules:
            candidates = self._candidates(rule)
            for score in rule.own_scores if candidates else ():
                self.view.plan(score.measure, candidates, **score.operands)

    def give_roles(self, stage: Stage) -> None:
        """Give the heads that were found the roles that their functions are, where they have none yet."""
        self.means[stage.name] = {head: effect.mean for head, effect in self.clear.items()}
        for rule in stage.rules:
            given = self._those_who_do(rule, stage)
            for head, evidence in given.items():
                one = self.found[head]
                one.role, one.evidence, one.given_at, one.given_by = rule.role, evidence, stage.name, rule
            self.groups[rule.role] = tuple(sorted({*self.groups.get(rule.role, ()), *given}))

    def _candidates(self, rule: Rule) -> list[Head]:
        return [
            head
            for head, effect in self.clear.items()
            if effect.mean * rule.direction > 0 and self.found[head].role is None
        ]

    def _those_who_do(self, rule: Rule, stage: Stage) -> dict[Head, dict[str, float]]:
        candidates = self._candidates(rule)
        aside = stage.meanwhile(self.groups_for(stage))
        judged = functions(self.chain, rule, self.view, self.repeated, candidates, aside) if candidates else {}
        for head, one in judged.items():
            if not one.agrees:
                self.found[head].missed.append(Missed(rule.role, stage.name, one.criteria))
            if one.agrees is None:
                self.found[head].undecided.append(rule.role)
        return {head: dict(one.evidence) for head, one in judged.items() if one.agrees}

    def _looks_of(self, head: Head) -> dict[str, float]:
        """Where a head looks, most first."""
        means = {
            f"attention {query} -> {key}": float(self.view.by_head("attention", query=query, key=key).of(head).mean())
            for query, key in _pairs(self.view)
        }
        looks = [name for name, mean in sorted(means.items()) if mean >= LOOKS]
        return {name: means[name] for name in ranked(looks, means.__getitem__, decimals=2)}

    def followed(self) -> Followed:
        """What it led to. Of heads without a role one is told where they look."""
        for head, one in self.found.items():
            if one.role is None:
                one.evidence = self._looks_of(head)
        placed = [
            Placed(
                head,
                one.role or UNEXPLAINED,
                tuple(one.effects),
                one.evidence,
                one.given_at,
                () if one.role else tuple(dict.fromkeys(one.undecided)),
                one.given_by,
                None if one.role else nearest_of(one.missed),
            )
            for head, one in sorted(self.found.items())
        ]
        unclear = tuple(sorted(self.unclear - self.found.keys()))
        went_on_from = {stage: heads for stage, heads in self.went_on_from.items() if heads}
        return Followed(tuple(placed), self.groups, unclear, went_on_from)


def _sizable(stage: Stage, heads: Sequence[Head], effects: ByHead, floor: float, level: Level) -> dict[Head, Effect]:
    """The effects of the heads that are judged, where they are no trifle, with their corrected intervals."""
    sizable = {}
    for head in heads:
        values = effects.of(head)
        mean = float(values.mean())
        if abs(mean) >= max(floor, 1e-12) and stage.counts(mean):
            sizable[head] = Effect(stage.name, mean, interval_of_mean(values, level))
    return sizable
