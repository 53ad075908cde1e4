"""The verdict of a diagnosis: what behaviour and roles say together, in one word and a few more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from circuit_assertions.assertions.chains import UNEXPLAINED
from circuit_assertions.diagnosis.function import Function, RoleChange, what_it_keeps
from circuit_assertions.measures.figures import Figure
from circuit_assertions.policy import Policy
from circuit_assertions.verdict_words import Overall

__all__ = ["Behaviour", "overall"]


@dataclass(frozen=True)
class Behaviour:
    """The logit difference before and after, and the share that is left; of a corrupted model too, if there is one."""

    before: Figure
    after: Figure
    retained: Figure
    corrupted: Figure | None = None


def overall(behaviour: Behaviour, function: Function, policy: Policy) -> tuple[Overall, str]:
    """The verdict, and what it rests on: intervals that hold together (`levels.of_roles`, `levels.of_heads`)."""
    kept = behaviour.retained
    if kept.mean < policy.corrupted_below and kept.interval.high < 1 - policy.least_lost:
        turned = "the behaviour is reversed: the model prefers the wrong answer"
        return Overall.CORRUPTED, turned if behaviour.after.interval.high < 0 else f"{_shown(behaviour)} is left"
    amplified = kept.interval.low > policy.amplified_above
    active = [role for role in function.roles if not role.asleep]
    # What a role against the answer loses, the answer gains: no loss where the behaviour is stronger, unless it turned.
    counted = [role for role in active if not (amplified and role.opposes and not role.reversed)]
    lost = [f"{role.role} {what_it_keeps(role.retained, policy, in_sentence=True)}" for role in counted if role.lost]
    flipped = _flipped(function)
    if lost or flipped:
        return Overall.CORRUPTED, f"the behaviour {'' if lost else 'mostly '}holds, but {', '.join([*lost, *flipped])}"
    stronger = ["the behaviour"] * amplified
    stronger += [role.role for role in active if role.retained.interval.low > policy.amplified_above]
    more = f"stronger than on the baseline: {', '.join(stronger)}" if stronger else ""
    less = [role for role in counted if role.retained.interval.high < policy.degraded_role_below]
    weaker = kept.interval.high < policy.degraded_below
    if weaker or less:  # a stronger role does not make up for a weaker one
        there = f"{_shown(behaviour)} is {'left' if weaker else 'kept'}"
        return Overall.DEGRADED, f"{there}, {_of_roles(function, less)}{f'; {more}' * bool(more)}"
    if more:
        return Overall.AMPLIFIED, "; ".join([more, *_weaker_against(active, policy)])
    return Overall.INTACT, f"{_shown(behaviour)} is kept, {_of_roles(function)}"


def _of_roles(function: Function, degraded: Sequence[RoleChange] = ()) -> str:
    """What is known of the roles where none is lost."""
    less = [role for role in function.roles if role.weaker or not role.works or role in degraded]
    if less:
        told = (
            f"{role.role} {what_it_keeps(role.retained, role.policy, in_sentence=True)}"
            f"{' (uncertain)' * role.uncertain}"
            for role in less
        )
        return f"but {', '.join(told)}"
    if not function.roles:
        return "and there is no role to compare"
    return "and every role that could be compared works" if function.not_compared else "and every role works"


def _weaker_against(active: Sequence[RoleChange], policy: Policy) -> list[str]:
    """The weaker roles that work against the answer, as a sentence in a list; none or one."""
    less = [role for role in active if role.opposes and role.retained.interval.high < policy.degraded_role_below]
    told = [f"{role.role} {what_it_keeps(role.retained, policy, in_sentence=True)}" for role in less]
    return [f"{', '.join(told)}, which is against the answer"] if told else []


def _flipped(function: Function) -> list[str]:
    """The heads that have a role and work against it, as a sentence in a list; none or one."""
    named = [role for role in function.roles if role.role != UNEXPLAINED and not role.asleep]
    heads = [f"{one.head} ({one.role})" for role in named for one in role.heads if one.kind == "sign flipped"]
    return [f"the sign of {', '.join(heads)} is reversed"] if heads else []


def _shown(behaviour: Behaviour) -> str:
    share = behaviour.retained
    return f"{share.mean:.0%} [{share.interval.low:.0%}, {share.interval.high:.0%}] of the behaviour"
