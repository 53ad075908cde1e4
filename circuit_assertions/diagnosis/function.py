"""The function of the baseline's heads, then and now: the papers' lens. It says which roles changed, not why.

Every head of the circuit is read by the effect that its role is about (a name mover's on the logits, an S-inhibition
head's through the name movers' queries), by where it looks, and by what it copies, on the same prompts in both models.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from circuit_assertions.assertions.circuits import Roles, everyone_in
from circuit_assertions.diagnosis.discovery.chains import Anywhere, Chain, Inputs, KnockOut, Rule, Stage
from circuit_assertions.diagnosis.discovery.following import UNEXPLAINED
from circuit_assertions.diagnosis.view import ByHead, View, corrected_interval
from circuit_assertions.heads import Head
from circuit_assertions.measures import Receiver
from circuit_assertions.measures.figures import TRIFLE, Array, Figure, share_of

__all__ = [
    "Change",
    "Function",
    "HeadChange",
    "Inside",
    "RoleChange",
    "announce",
    "compare_functions",
    "effect_of_role",
]

Change = Literal["intact", "amplified", "weakened", "silenced", "sign flipped", "attention moved"]

_AMPLIFIED, _WEAKENED, _SILENCED = 1.25, 0.75, 0.2  # of the baseline's effect
_LOOKS_AWAY = 0.5  # of the baseline's attention


@dataclass(frozen=True)
class HeadChange:
    """One head of the circuit, then and now.

    Attributes:
        before, after: its effect on the baseline and on the model, in logits; `change` is their paired difference.
        looks: attention between its role's positions, then and now; None for roles that look at nothing in particular.
        copies: its copy score, then and now, where its role copies.
        effects: what `before` and `after` are the means of, prompt by prompt [prompts].
    """

    head: Head
    role: str
    kind: Change
    before: Figure
    after: Figure
    change: Figure
    looks: tuple[Figure, Figure] | None = None
    copies: tuple[Figure, Figure] | None = None
    effects: tuple[Array, Array] = field(default=(np.empty(0), np.empty(0)), repr=False, compare=False)


@dataclass(frozen=True)
class RoleChange:
    """A role's heads together: the share of the baseline's effect that is left, and its heads.

    Attributes:
        retained: the heads' effects, each counted in the direction that it has on the baseline, as a share of the
            baseline's.
        asleep: whether the role is about what its heads would do if others were knocked out.
    """

    role: str
    retained: Figure
    heads: tuple[HeadChange, ...]
    asleep: bool = False

    @property
    def changed(self) -> tuple[HeadChange, ...]:
        """Those whose function is no longer what it was; amplified ones still do their work."""
        return tuple(one for one in self.heads if one.kind not in ("intact", "amplified"))


@dataclass(frozen=True)
class Inside:
    """Where the heads' change of path effect on the logits lies, as shares of all heads' change.

    Attributes:
        circuit: what lies in the baseline's circuit.
        random: what lies in random sets of as many heads in the same layers, on average.
        more: their difference. A circuit that has most heads of its layers cannot have much more than chance.

    Intervals are over prompts; another draw of random sets would move `random` as well.
    """

    circuit: Figure
    random: Figure
    more: Figure


@dataclass(frozen=True)
class Function:
    """What became of a circuit's roles.

    Attributes:
        roles: those whose heads have an effect on the baseline; the others have none to lose.
        inside: None where nothing changed at all.
    """

    roles: tuple[RoleChange, ...]
    inside: Inside | None = None

    @property
    def heads(self) -> tuple[HeadChange, ...]:
        """All heads of all roles."""
        return tuple(one for role in self.roles for one in role.heads)


@dataclass(frozen=True)
class _Seen:
    effect: ByHead
    looks: ByHead | None = None
    copies: ByHead | None = None


def compare_functions(chain: Chain, roles: Roles, baseline: View, model: View) -> Function:
    """Compare what the heads of the baseline's circuit do in both models.

    Args:
        roles: the baseline's circuit: its roles' heads are receivers and subjects in both models.
    """
    announce(chain, roles, baseline, model)
    trifle = TRIFLE * abs(float(baseline.by_prompt("logit-difference").mean()))
    changes = []
    for role, heads in roles.items():
        before, after = (_see(role, chain, roles, view) for view in (baseline, model))
        if before is None or after is None:
            continue
        own = tuple(_change(head, role, before, after, trifle, len(heads)) for head in heads)
        signs = [np.sign(before.effect.of(head).mean()) for head in heads]
        then, now = (
            np.sum([sign * seen.effect.of(head) for sign, head in zip(signs, heads, strict=True)], axis=0)
            for seen in (before, after)
        )
        if Figure.of_values(then).interval.low > 0:
            known = places_of(chain, role)
            asleep = known is not None and isinstance(known[0].to, KnockOut)
            changes.append(RoleChange(role, Figure.of_values(share_of(now, then)), own, asleep))
    return Function(tuple(changes), _inside(roles, baseline, model))


def effect_of_role(chain: Chain, role: str, roles: Roles, view: View) -> Array:
    """What the heads of a role do together, by the effect that the role is about [prompts]."""
    seen = _see(role, chain, roles, view) or _Seen(view.by_head("total-effect", roles[role]))
    together: Array = np.sum([seen.effect.of(head) for head in roles[role]], axis=0)
    return together


def places_of(chain: Chain, role: str) -> tuple[Stage, Rule] | None:
    """The stage and rule by which a role is known; the first, where there are several."""
    found = ((stage, rule) for stage in chain.stages for rule in stage.rules if rule.role == role)
    return next(found, None)


def _see(role: str, chain: Chain, roles: Roles, view: View) -> _Seen | None:
    """What the role is read by; None where it is no role of the chain's."""
    asked = _asked(role, chain, roles)
    if asked is None:
        return None
    effect, *others = (view.by_head(measure, roles[role], **operands) for measure, operands in asked)
    looks = others[0] if others else None
    return _Seen(effect, looks, others[1] if len(others) > 1 else None)


def _asked(role: str, chain: Chain, roles: Roles) -> list[tuple[str, dict[str, Any]]] | None:
    """Measures and operands that a role is read by: its effect, then where it looks, then what it copies.

    A role whose receivers are not known, and heads without a role, are read by their total effect alone.
    """
    known = places_of(chain, role)
    if known is None:
        return [("total-effect", {})] if role == UNEXPLAINED else None
    stage, rule = known
    to = stage.to
    if isinstance(to, (Inputs, KnockOut)) and not roles.get(to.of):
        return [("total-effect", {})]
    aside: dict[str, Any] = {}
    if isinstance(to, KnockOut):
        aside = {"without": roles[to.of]}
        effect = ("direct-effect", aside)
    elif isinstance(to, Inputs):
        effect = ("path-effect", {"receiver": Receiver(to.which, roles[to.of], to.at)})
    else:
        effect = ("total-effect" if isinstance(to, Anywhere) else "path-effect", {})
    looks = ("attention", {"query": rule.look.query, "key": rule.look.key, **aside})
    copies: list[tuple[str, dict[str, Any]]] = [(score.measure, {}) for score in rule.scores if not score.repeated]
    return [effect, looks, *copies[:1]]


def announce(chain: Chain, roles: Roles, *views: View) -> None:
    """Say what a comparison will read, so that every model is run over the prompts once."""
    for view in views:
        for measure in ("logit-difference", "path-effect"):
            view.plan(measure)
        for role, heads in roles.items():
            for measure, operands in _asked(role, chain, roles) or ():
                view.plan(measure, heads, **operands)


def _change(head: Head, role: str, before: _Seen, after: _Seen, trifle: float, tests: int) -> HeadChange:
    then, now = before.effect.of(head), after.effect.of(head)
    looks = _pair(before.looks, after.looks, head)
    looked_away = False
    if looks is not None and before.looks is not None and after.looks is not None:
        less = corrected_interval(before.looks.of(head) - after.looks.of(head), tests).low > 0
        looked_away = less and looks[1].mean < _LOOKS_AWAY * looks[0].mean
    kind = _kind(then, now, trifle, tests)
    if kind == "intact" and looked_away:
        kind = "attention moved"
    return HeadChange(
        head,
        role,
        kind,
        Figure.of_values(then),
        Figure.of_values(now),
        Figure.of_values(now - then),
        looks,
        _pair(before.copies, after.copies, head),
        (then, now),
    )


def _kind(then: Array, now: Array, trifle: float, tests: int) -> Change:
    before, after = float(then.mean()), float(now.mean())
    difference = corrected_interval(now - then, tests)
    if difference.low <= 0 <= difference.high or abs(after - before) < trifle:
        return "intact"
    if abs(before) < trifle:
        return "amplified"  # from nothing to something, whichever way the nothing leaned
    interval = corrected_interval(now, 1)
    opposite = interval.high < 0 if before > 0 else interval.low > 0
    if opposite and abs(after) >= trifle:
        return "sign flipped"
    share = after / before
    if share < _SILENCED:  # on the other side of zero, but not clear of it
        return "silenced"
    return "weakened" if share < _WEAKENED else "amplified" if share > _AMPLIFIED else "intact"


def _pair(before: ByHead | None, after: ByHead | None, head: Head) -> tuple[Figure, Figure] | None:
    if before is None or after is None:
        return None
    return Figure.of_values(before.of(head)), Figure.of_values(after.of(head))


def _inside(roles: Roles, baseline: View, model: View) -> Inside | None:
    """Where the change of path effects lies. Heads count by how far their means moved, whichever way."""
    from circuit_assertions.measures.headsets import random_sets  # with torch, which is there once a model is
    from circuit_assertions.measures.shares import above_zero

    then, now = baseline.by_head("path-effect"), model.by_head("path-effect")
    moved = above_zero(now.values - then.values)  # [prompts, heads]
    everything = moved.sum(axis=1)
    circuit = everyone_in(roles)
    if everything.mean() == 0 or not circuit:
        return None

    def of(heads: Collection[Head]) -> Array:
        part: Array = moved[:, [head in heads for head in then.heads]].sum(axis=1)
        return part

    own = of(circuit)
    by_chance = np.mean([of(heads) for heads in random_sets(model.audit.model(model.checkpoint), circuit)], axis=0)
    parts = (own, by_chance, own - by_chance)
    return Inside(*(Figure.of_values(share_of(part, everything)) for part in parts))
