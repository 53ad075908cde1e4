"""Whether a repaired model recovered, and how: by the baseline's own heads, or by a bypass around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from circuit_assertions.assertions.chains import UNEXPLAINED
from circuit_assertions.diagnosis.function import Function, share_as_told
from circuit_assertions.diagnosis.rediscovery import Circuits
from circuit_assertions.diagnosis.view import View, corrected_interval
from circuit_assertions.heads import Head
from circuit_assertions.measures import Interval
from circuit_assertions.measures.figures import Array, Figure, has_lost, share_of
from circuit_assertions.measures.reading import bootstrap_means
from circuit_assertions.ordering import ranked
from circuit_assertions.policy import Policy
from circuit_assertions.verdict_words import RecoveryVerdict

__all__ = ["Carrier", "Recovery", "judge_recovery"]

_SHOWN = 5  # carriers


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
        alike: rank correlation of the circuit's effects, head by head, with the baseline's; None for too few heads.
        weakest: the role that keeps the smallest share of its effect on the baseline, and that share.
        knocked_out: what resampling the heads that write the answer costs, as a share of the logit difference: on the
            baseline, and on the model, where the right answer is ahead.
        carriers: the heads that carry it instead, the strongest first.
        circuits: the baseline's circuit, and the one rediscovered on the model.
    """

    how: RecoveryVerdict
    share: Figure
    alike: Figure | None
    weakest: tuple[str, Figure] | None
    knocked_out: tuple[Figure, Figure | None]
    carriers: tuple[Carrier, ...] = ()
    circuits: Circuits | None = None


def judge_recovery(
    function: Function, writers: Sequence[Head], model: View, baseline: View, corrupted: View
) -> Recovery | None:
    """Judge how a corrupted model recovered; None where the corrupted one has lost next to nothing.

    Args:
        function: what the baseline's heads do in the model.
        writers: the heads of the baseline's circuit that write the answer.
    """
    policy = model.policy
    now, then, worst = (view.behaviour() for view in (model, baseline, corrupted))
    if not has_lost(then, worst, policy):
        return None
    share = model.figure(share_of(now - worst, then - worst))
    awake = [role for role in function.roles if not role.asleep]
    named = [role for role in awake if role.role != UNEXPLAINED] or awake
    shares = {role.role: role.retained for role in named}
    weakest = _weakest(shares, policy)
    ahead = model.figure(now).interval.low > 0
    before, after = _knocked_out(baseline, writers), _knocked_out(model, writers) if ahead else None
    knocked = baseline.figure(before), None if after is None else model.figure(after)
    alike = _alike(function, policy)
    by_same_heads = [
        *(_side(one.interval, policy.recovery_keeps) for one in shares.values()),
        False if after is None else _side(model.figure(after - policy.recovery_keeps * before).interval, 0.0),
        *([] if alike is None else [_side(alike.interval, policy.recovery_rank_correlation)]),
    ]
    how = _how(share, ahead, by_same_heads, policy)
    return Recovery(how, share, alike, weakest, knocked, _carriers(writers, model, baseline))


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


def _alike(function: Function, policy: Policy) -> Figure | None:
    """Rank correlation (Spearman) of all heads' effects then and now, with its interval over prompts."""
    if len(function.heads) < policy.recovery_fewest_ranked:
        return None
    effects = [np.stack([one.effects[when] for one in function.heads], axis=1) for when in (0, 1)]  # [prompts, heads]
    # The same resamples of the prompts for both models.
    sides = [np.vstack([values.mean(axis=0), bootstrap_means(values)]) for values in effects]  # [1 + resamples, heads]
    if any(np.ptp(side, axis=1).min() == 0 for side in sides):
        return None  # heads that are level have no order
    correlations = _rank_correlations(*sides)
    tail = (1 - policy.figure_confidence) / 2
    low, high = np.quantile(correlations[1:], (tail, 1 - tail))
    return Figure(float(correlations[0]), Interval(float(low), float(high)))


def _rank_correlations(first: Array, second: Array) -> Array:
    """Of each row of two tables [rows, columns]."""
    from scipy.stats import rankdata

    ranks = [rankdata(side, axis=1) for side in (first, second)]
    one, other = (side - side.mean(axis=1, keepdims=True) for side in ranks)
    correlations: Array = (one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return correlations


def _carriers(writers: Sequence[Head], model: View, baseline: View) -> tuple[Carrier, ...]:
    """Heads that carry clearly more to the logits than on the baseline."""
    now, then = model.by_head("path-effect"), baseline.by_head("path-effect")
    floor = model.policy.negligible_effect * abs(float(baseline.behaviour().mean()))
    gained = {head: now.of(head) - then.of(head) for head in now.heads if head not in writers}
    clear = [
        head
        for head, more in gained.items()
        if more.mean() >= floor and corrected_interval(more, len(now.heads), model.policy.figure_confidence).low > 0
    ]
    ordered = ranked(sorted(clear), lambda head: float(gained[head].mean()), decimals=2)
    return tuple(Carrier(head, model.figure(then.of(head)), model.figure(now.of(head))) for head in ordered[:_SHOWN])


def _knocked_out(view: View, writers: Sequence[Head]) -> Array:
    """What the knock-out of the writers costs, as a share of the logit difference [prompts].

    By resampling: a mean or zero also wakes stand-ins that the answer of another prompt leaves asleep.
    """
    lost = view.by_prompt("ablation-effect", set=tuple(writers), ablation="resample")
    return share_of(lost, view.behaviour())
