"""The function of the baseline's heads, before and after: it shows which roles changed, not why.

Every head of the circuit is read by the effect that its role is about (a name mover's on the logits, an S-inhibition
head's through the name movers' queries), by where it looks, and by what it copies, on the same prompts in both models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from circuit_assertions.assertions.chains import UNEXPLAINED, Chain, Rule, Stage
from circuit_assertions.assertions.circuits import Roles, everyone_in
from circuit_assertions.diagnosis import levels
from circuit_assertions.diagnosis.head_change import Change, HeadChange, Seen, change_of
from circuit_assertions.diagnosis.view import View
from circuit_assertions.measures.figures import Array, Figure, share_of
from circuit_assertions.policy import DEFAULT, Policy

__all__ = [
    "Change",
    "Function",
    "HeadChange",
    "Inside",
    "RoleChange",
    "announce",
    "compare_functions",
    "effect_of_role",
    "read_functions",
    "what_it_keeps",
]


@dataclass(frozen=True)
class RoleChange:
    """A role's heads together: the share of the baseline's effect that is left, and its heads.

    Attributes:
        retained: the heads' effects, each counted in the direction that it has on the baseline, as a share of the
            baseline's.
        asleep: whether the role is about what its heads would do if others were knocked out.
        policy: the thresholds by which the role is described.
    """

    role: str
    retained: Figure
    heads: tuple[HeadChange, ...]
    asleep: bool = False
    policy: Policy = field(default=DEFAULT, repr=False)

    @property
    def changed(self) -> tuple[HeadChange, ...]:
        """Those whose function has changed; amplified ones still do their work."""
        return tuple(one for one in self.heads if one.kind not in ("intact", "amplified"))

    @property
    def lost(self) -> bool:
        """Whether the role is certainly lost, with or without a head that changed for certain."""
        return self.retained.interval.high < self.policy.corrupted_role_below

    @property
    def opposes(self) -> bool:
        """Whether its heads worked against the answer on the baseline, as negative name movers do."""
        return sum(one.before.mean for one in self.heads) < 0

    @property
    def reversed(self) -> bool:
        """Whether its effect certainly has the opposite direction of the baseline's."""
        return self.retained.interval.high < 0

    @property
    def weaker(self) -> bool:
        """Whether the role certainly has a weaker effect."""
        return self.retained.interval.high < self.policy.weaker_role_below

    @property
    def works(self) -> bool:
        """Whether the role is certainly not lost, and its mean effect is not weaker."""
        enough = self.retained.mean >= self.policy.weaker_role_below
        return self.retained.interval.low >= self.policy.corrupted_role_below and enough

    @property
    def uncertain(self) -> bool:
        """Whether the role may be lost or not."""
        return self.retained.interval.low < self.policy.corrupted_role_below and not self.weaker

    @property
    def kept(self) -> str:
        """What is left of the effect, in words that follow the role's name."""
        return what_it_keeps(self.retained, self.policy)


def what_it_keeps(retained: Figure, policy: Policy, in_sentence: bool = False) -> str:
    """The share of a role's effect that is left, in words that follow the role's name.

    Args:
        in_sentence: whether the role's name is the subject of a sentence.
    """
    percent = share_as_told(retained, policy)
    if percent < 0:
        return f"{'has its ' * in_sentence}effect reversed ({percent}% of baseline)"
    if percent == 0:
        return "keeps none of its effect"
    return f"{'keeps' if percent <= 100 else 'has'} {percent}% of its effect"


def share_as_told(retained: Figure, policy: Policy) -> int:
    """The share of a role's effect that is left as it is told, in percent; little on the other side of zero is none."""
    percent = round(100 * retained.mean)
    return 0 if 100 * policy.reversed_role_below < percent < 0 else percent


@dataclass(frozen=True)
class Inside:
    """Where the heads' change of path effect on the logits lies, as shares of all heads' change.

    Attributes:
        circuit: what lies in the baseline's circuit.
        random: what lies in random sets of as many heads in the same layers, on average over all such sets.
        more: their difference. A circuit that has most heads of its layers cannot have much more than chance.
    """

    circuit: Figure
    random: Figure
    more: Figure


@dataclass(frozen=True)
class Function:
    """The roles of a circuit, compared with the baseline.

    Attributes:
        roles: those whose heads have an effect on the baseline that is clear of zero; the others have none to lose.
        inside: None where nothing changed at all.
        not_compared: the other roles of the circuit, each with the reason.
    """

    roles: tuple[RoleChange, ...]
    inside: Inside | None = None
    not_compared: Mapping[str, str] = field(default_factory=dict)

    @property
    def heads(self) -> tuple[HeadChange, ...]:
        """All heads of all roles."""
        return tuple(one for role in self.roles for one in role.heads)


def compare_functions(chain: Chain, roles: Roles, baseline: View, model: View) -> Function:
    """Compare what the heads of the baseline's circuit do in both models.

    Args:
        roles: the baseline's circuit: its roles' heads are receivers and subjects in both models.
    """
    announce(chain, roles, baseline, model)
    trifle = model.policy.negligible_effect * abs(float(baseline.behaviour().mean()))
    changes, not_compared = [], {}
    for role in roles:
        before, after = (_see(role, chain, roles, view) for view in (baseline, model))
        if before is None or after is None:
            not_compared[role] = f"it is none of the roles that are known of {chain.name}"
        elif (change := _role_change(role, chain, roles, before, after, trifle, model.policy)) is None:
            not_compared[role] = "its effect on the baseline is not clear of zero on these prompts"
        else:
            changes.append(change)
    return Function(tuple(changes), _inside(roles, baseline, model), not_compared)


def _role_change(
    role: str, chain: Chain, roles: Roles, before: Seen, after: Seen, trifle: float, policy: Policy
) -> RoleChange | None:
    """None where the role has no effect on the baseline that is clear of zero.

    Behaviour and roles share one half of the level, the heads of all roles the other (`levels`).
    """
    heads = roles[role]
    signs = [np.sign(before.effect.of(head).mean()) for head in heads]
    then, now = (
        np.sum([sign * seen.effect.of(head) for sign, head in zip(signs, heads, strict=True)], axis=0)
        for seen in (before, after)
    )
    level = levels.of_roles(policy, roles)
    if not Figure.of_values(then, level).interval.low > 0:
        return None
    known = places_of(chain, role)
    asleep = known is not None and known[0].asleep
    of_each = levels.of_heads(policy, roles)
    own = tuple(change_of(head, role, before, after, trifle, of_each, policy) for head in heads)
    return RoleChange(role, Figure.of_values(share_of(now, then), level), own, asleep, policy)


def effect_of_role(chain: Chain, role: str, roles: Roles, view: View) -> Array:
    """What the heads of a role do together, by the effect that the role is about [prompts]."""
    seen = _see(role, chain, roles, view) or Seen(view.by_head("total-effect", roles[role]))
    together: Array = np.sum([seen.effect.of(head) for head in roles[role]], axis=0)
    return together


def places_of(chain: Chain, role: str) -> tuple[Stage, Rule] | None:
    """The stage and rule by which a role is known; the first, where there are several."""
    return next(((stage, rule) for stage, rule in chain.rules if rule.role == role), None)


def _see(role: str, chain: Chain, roles: Roles, view: View) -> Seen | None:
    """What the role is read by; None where it is no role of the chain's."""
    asked = _asked(role, chain, roles)
    if asked is None:
        return None
    effect, *others = (view.by_head(measure, roles[role], **operands) for measure, operands in asked)
    looks = others[0] if others else None
    return Seen(effect, looks, others[1] if len(others) > 1 else None)


def _asked(role: str, chain: Chain, roles: Roles) -> list[tuple[str, dict[str, Any]]] | None:
    """Measures and operands that a role is read by: its effect, then where it looks, then what it copies.

    A role whose receivers are not known, and heads without a role, are read by their total effect alone.
    """
    known = places_of(chain, role)
    if known is None:
        return [("total-effect", {})] if role == UNEXPLAINED else None
    stage, rule = known
    effect, look = stage.effect(roles), rule.attends
    if effect is None:
        return [("total-effect", {})]
    looks = ("attention", {"query": look.query, "key": look.key, **stage.meanwhile(roles)})
    copies: list[tuple[str, dict[str, Any]]] = [(score.measure, score.operands) for score in rule.own_scores]
    return [effect, looks, *copies[:1]]


def announce(chain: Chain, roles: Roles, *views: View) -> None:
    """Say what a comparison will read, so that every model is run over the prompts once."""
    for view in views:
        for measure in (view.task.answer_metric.name, "path-effect"):
            view.plan(measure)
        for role, heads in roles.items():
            for measure, operands in _asked(role, chain, roles) or ():
                view.plan(measure, heads, **operands)


def read_functions(chain: Chain, roles: Roles, view: View) -> None:
    """Read what `compare_functions` reads of one side."""
    announce(chain, roles, view)
    view.behaviour()
    view.by_head("path-effect")
    for role in roles:
        _see(role, chain, roles, view)


def _inside(roles: Roles, baseline: View, model: View) -> Inside | None:
    """Where the change of path effects lies. Heads count by how far their means moved, whichever way."""
    from circuit_assertions.measures.shares import above_zero  # with torch, which is there once a model is

    then, now = baseline.by_head("path-effect"), model.by_head("path-effect")
    moved = above_zero(now.values - then.values)  # [prompts, heads]
    everything = moved.sum(axis=1)
    circuit = everyone_in(roles)
    if everything.mean() == 0 or not circuit:
        return None
    # Of all sets with as many heads in each layer, a head is in just that share that the circuit has of its layer.
    taken, there = (Counter(head.layer for head in heads) for heads in (circuit, then.heads))
    own: Array = moved[:, [head in circuit for head in then.heads]].sum(axis=1)
    by_chance: Array = moved @ np.array([taken[head.layer] / there[head.layer] for head in then.heads])
    parts = (own, by_chance, own - by_chance)
    return Inside(*(model.figure(share_of(part, everything), len(parts)) for part in parts))
