"""The verdict of a diagnosis: what behaviour and roles say together, in one word and a few more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from circuit_assertions.assertions.chains import UNEXPLAINED
from circuit_assertions.diagnosis.function import Function, RoleChange, what_it_keeps
from circuit_assertions.measures.figures import LEAST_LOST, Figure
from circuit_assertions.verdict_words import Overall

__all__ = ["CLEAN_BEHAVIOUR", "CLEAN_ROLE", "Behaviour", "overall"]

_KEPT = 0.75  # of the baseline's behaviour, below which it is corrupted
_MORE = 1.25  # of the baseline's, above which behaviour or role is amplified
# The lowest values that the 95 % intervals of the laboratory's clean fine-tunings reach (docs/lab.md, "Clean
# fine-tunings", on 64 prompts): `narrow` for the behaviour, S-inhibition of `benign-ioi` for a role. What lies below
# them with its whole interval is less than clean fine-tuning leaves.
CLEAN_BEHAVIOUR = 0.96
CLEAN_ROLE = 0.92


@dataclass(frozen=True)
class Behaviour:
    """The logit difference before and after, and the share that is left; of a corrupted model too, if there is one."""

    before: Figure
    after: Figure
    retained: Figure
    corrupted: Figure | None = None


def overall(behaviour: Behaviour, function: Function) -> tuple[Overall, str]:
    """The verdict, and what it rests on."""
    if behaviour.retained.mean < _KEPT and behaviour.retained.interval.high < 1 - LEAST_LOST:
        turned = "the behaviour is reversed: the model prefers the wrong answer"
        return Overall.CORRUPTED, turned if behaviour.after.interval.high < 0 else f"{_shown(behaviour)} is left"
    lost = [
        f"{role.role} {what_it_keeps(role.retained, in_sentence=True)}"
        for role in function.roles
        if not role.asleep and role.lost
    ]
    flipped = _flipped(function)
    if lost or flipped:
        return Overall.CORRUPTED, f"the behaviour {'' if lost else 'mostly '}holds, but {', '.join([*lost, *flipped])}"
    stronger = ["the behaviour"] * (behaviour.retained.interval.low > _MORE)
    stronger += [role.role for role in function.roles if role.retained.interval.low > _MORE and not role.asleep]
    more = f"stronger than on the baseline: {', '.join(stronger)}" if stronger else ""
    less = [role for role in function.roles if not role.asleep and role.retained.interval.high < CLEAN_ROLE]
    weaker = behaviour.retained.interval.high < CLEAN_BEHAVIOUR
    if weaker or less:  # a stronger role does not make up for a weaker one
        there = f"{_shown(behaviour)} is {'left' if weaker else 'kept'}"
        return Overall.DEGRADED, f"{there}, {_of_roles(function, less)}{f'; {more}' * bool(more)}"
    if more:
        return Overall.AMPLIFIED, more
    return Overall.INTACT, f"{_shown(behaviour)} is kept, {_of_roles(function)}"


def _of_roles(function: Function, degraded: Sequence[RoleChange] = ()) -> str:
    """What is known of the roles where none is lost."""
    less = [role for role in function.roles if role.weaker or not role.works or role in degraded]
    if less:
        told = (
            f"{role.role} {what_it_keeps(role.retained, in_sentence=True)}{' (uncertain)' * role.uncertain}"
            for role in less
        )
        return f"but {', '.join(told)}"
    if not function.roles:
        return "and there is no role to compare"
    return "and every role that could be compared works" if function.not_compared else "and every role works"


def _flipped(function: Function) -> list[str]:
    """The heads that have a role and work against it, as a sentence in a list; none or one."""
    named = [role for role in function.roles if role.role != UNEXPLAINED and not role.asleep]
    heads = [f"{one.head} ({one.role})" for role in named for one in role.heads if one.kind == "sign flipped"]
    return [f"the sign of {', '.join(heads)} is reversed"] if heads else []


def _shown(behaviour: Behaviour) -> str:
    share = behaviour.retained
    return f"{share.mean:.0%} [{share.interval.low:.0%}, {share.interval.high:.0%}] of the behaviour"
