"""Whether a repaired model recovered, and how: by the baseline's own heads, or by a bypass around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from circuit_assertions.assertions.chains import UNEXPLAINED
from circuit_assertions.diagnosis import levels
from circuit_assertions.diagnosis.function import Function, share_as_told
from circuit_assertions.diagnosis.rediscovery import Circuits
from circuit_assertions.diagnosis.view import View
from circuit_assertions.heads import Head
from circuit_assertions.measures import Interval
from circuit_assertions.measures.figures import Array, Figure, has_lost, share_of
from circuit_assertions.measures.intervals import interval_of_mean
from circuit_assertions.ordering import ranked
from circuit_assertions.policy import Policy
from circuit_assertions.verdict_words import RecoveryVerdict

__all__ = ["Carrier", "Recovery", "judge_recovery"]

_SHOWN = 5  # carriers
_FEWEST_RANKED = 3  # heads; two are in the same order or in the other


@dataclass(frozen=True)
class Carrier:
    """A head outside of the baseline's writers that now carries more to the logits than it did there."""

    head: Head
    before: Figure
    after: Figure


@dataclass(frozen=True)
class Recovery:
    """How much of the behaviour is recovered between the corrupted model and the baseline, and by which heads.

    Attributes:
        share: (model - corrupted) / (baseline - corrupted), in logit difference.
        alike: rank correlation of the circuit's effects, head by head, with the baseline's; None for too few heads. It
            has no interval with a known error rate, and no verdict rests on it.
        weakest: the role that keeps the smallest share of its effect on the baseline, and that share.
        knocked_out: what resampling the heads that write the answer costs, as a share of the logit difference: on the
            baseline, and on the model, where the right answer is ahead.
        carriers: the heads that carry it instead, the strongest first.
        circuits: the baseline's circuit, and the one rediscovered on the model.
    """

    how: RecoveryVerdict
    share: Figure
    alike: float | None
    weakest: tuple[str, Figure] | None
    knocked_out: tuple[Figure, Figure | None]
    carriers: tuple[Carrier, ...] = ()
    circuits: Circuits | None = None


def judge_recovery(
    function: Function, writers: Sequence[Head], model: View, baseline: View, corrupted: View
) -> Recovery | None:
    """Judge how a corrupted model recovered; None where the corrupted one has lost next to nothing.

    The share, the answer, the knock-out and the roles share one level (`levels.of_recovery`).

    Args:
        function: what the baseline's heads do in the model.
        writers: the heads of the baseline's circuit that write the answer.
    """
    policy = model.policy
    now, then, worst = (view.behaviour() for view in (model, baseline, corrupted))
    if not has_lost(then, worst, policy):
        return None
    awake = [role for role in function.roles if not role.asleep]
    named = [role for role in awake if role.role != UNEXPLAINED] or awake
    level = levels.of_recovery(policy, len(named))
    share = Figure.of_values(share_of(now - worst, then - worst), level)
    shares = {role.role: role.retained for role in named}
    weakest = _weakest(shares, policy)
    ahead = interval_of_mean(now, level).low > 0
    before, after = _knocked_out(baseline, writers), _knocked_out(model, writers) if ahead else None
    knocked = Figure.of_values(before, level), None if after is None else Figure.of_values(after, level)
    by_same_heads = [
        *(_side(one.interval, policy.recovery_keeps) for one in shares.values()),
        False if after is None else _side(interval_of_mean(after - policy.recovery_keeps * before, level), 0.0),
        # Heads without a role may change with any training; but where they are lost, others do what they did.
        *(False for role in awake if role.role == UNEXPLAINED and role.lost),
    ]
    how = _how(share, ahead, by_same_heads, policy)
    return Recovery(how, share, _alike(function), weakest, knocked, _carriers(writers, model, baseline))


def _side(interval: Interval, bound: float) -> bool | None:
    """Whether an interval lies above a bound, or below it; None where the bound lies inside."""
    return True if interval.low >= bound else False if interval.high < bound else None


def _weakest(shares: Mapping[str, Figure], policy: Policy) -> tuple[str, Figure] | None:
    """The role that keeps least; of several that are told alike, the first by name."""
    named = ranked(sorted(shares), lambda role: -share_as_told(shares[role], policy))
    return (named[0], shares[named[0]]) if named else None


def _how(share: Figure, ahead: bool, by_same_heads: Sequence[bool | None], policy: Policy) -> RecoveryVerdict:
    """The verdict.

    Args:
        ahead: whether the right answer clearly is.
        by_same_heads: whether each criterion of the same heads is met; None where the prompts do not show it.
    """
    if share.mean < policy.partial_above:
        return RecoveryVerdict.NOT_RECOVERED
    recovered = _side(share.interval, policy.recovered_above)
    if recovered is False or not ahead:
        return RecoveryVerdict.PARTIAL
    if recovered and False in by_same_heads:
        return RecoveryVerdict.BYPASSED
    return RecoveryVerdict.RECOVERED if recovered and None not in by_same_heads else RecoveryVerdict.UNDECIDED


def _alike(function: Function) -> float | None:
    """Rank correlation (Spearman) of all heads' effects then and now; None where heads that are level have no order."""
    if len(function.heads) < _FEWEST_RANKED:
        return None
    means = [np.array([one.effects[when].mean() for one in function.heads]) for when in (0, 1)]
    if any(np.ptp(side) == 0 for side in means):
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(*means).statistic)


def _carriers(writers: Sequence[Head], model: View, baseline: View) -> tuple[Carrier, ...]:
    """Heads that carry clearly more to the logits than on the baseline; all heads of the model share the level."""
    now, then = model.by_head("path-effect"), baseline.by_head("path-effect")
    level = model.level.among(len(now.heads))
    floor = model.policy.negligible_effect * abs(float(baseline.behaviour().mean()))
    gained = {head: now.of(head) - then.of(head) for head in now.heads if head not in writers}
    clear = [head for head, more in gained.items() if more.mean() >= floor and interval_of_mean(more, level).low > 0]
    ordered = ranked(sorted(clear), lambda head: float(gained[head].mean()), decimals=2)
    return tuple(Carrier(head, then.figure(head, level), now.figure(head, level)) for head in ordered[:_SHOWN])


def _knocked_out(view: View, writers: Sequence[Head]) -> Array:
    """What the knock-out of the writers costs, as a share of the logit difference [prompts].

    By resampling: a mean or zero also wakes stand-ins that the answer of another prompt leaves asleep.
    """
    lost = view.by_prompt("ablation-effect", set=tuple(writers), ablation="resample")
    return share_of(lost, view.behaviour())
