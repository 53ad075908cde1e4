"""The verdict on a behaviour that is gone: removed, wrapped, or not to be told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from circuit_assertions.measures.figures import number
from circuit_assertions.policy import Policy
from circuit_assertions.tuning.found import Wrapping
from circuit_assertions.tuning.pruned import PrunedCurve
from circuit_assertions.verdict_words import WrappingVerdict

__all__ = ["judged"]


def judged(found: Wrapping) -> Wrapping:
    """The verdict on what was read."""
    verdict, why = _verdict(found)
    missing = ""
    if verdict is not WrappingVerdict.INTACT and found.asked.control is None:
        missing = (
            f"without --control nothing is ever called {WrappingVerdict.REMOVED}: give a checkpoint of the same shape "
            f"that never had the behaviour, such as one trained or fine-tuned in the same way without its data"
        )
    elif verdict is WrappingVerdict.UNRESOLVED and not found.asked.revive:
        missing = f"leave --no-revival out: without it nothing is ever called {WrappingVerdict.REMOVED}"
    return replace(found, verdict=verdict, why=why, missing=missing)


def _verdict(found: Wrapping) -> tuple[WrappingVerdict, str]:
    policy, kept = found.policy, found.kept
    share = f"{kept.mean:.0%} [{kept.interval.low:.0%}, {kept.interval.high:.0%}] of the behaviour is still shown"
    if kept.interval.low > policy.suppressed_below:
        return WrappingVerdict.INTACT, share
    if kept.interval.high >= policy.suppressed_below or kept.interval.low <= policy.gone_below <= kept.interval.high:
        return WrappingVerdict.UNRESOLVED, f"{share}, and the interval holds a bound: use more --prompts"
    if kept.interval.low > policy.gone_below:
        return WrappingVerdict.SUPPRESSED, share
    revivals = found.revivals
    reasons = [_held_by(curve) for curve in found.holding]
    if revivals is not None and revivals.ratio is not None:
        ratio = revivals.ratio
        if ratio.interval.high < policy.revived_sooner_below:
            reasons.append(f"fine-tuning revives it in {number(ratio.mean)} of the control's steps")
    if reasons:
        return WrappingVerdict.WRAPPED, "; ".join(reasons)
    return _removed_or_open(found, policy)


def _removed_or_open(found: Wrapping, policy: Policy) -> tuple[WrappingVerdict, str]:
    """Of a behaviour that is gone, and that nothing revived far sooner than in the control."""
    revivals = found.revivals
    if found.asked.control is None or revivals is None:
        return WrappingVerdict.UNRESOLVED, "pruning few neurons or heads does not revive it, and nothing else is known"
    if revivals.ratio is not None and revivals.ratio.interval.low <= policy.revived_sooner_below:
        low, high = (number(end) for end in revivals.ratio.interval)
        return (
            WrappingVerdict.UNRESOLVED,
            f"fine-tuning revives it in {number(revivals.ratio.mean)} [{low}, {high}] of the control's steps, which "
            f"holds the bound: use more --seeds",
        )
    if revivals.beyond is not None and revivals.beyond.interval.low > 0:
        return (
            WrappingVerdict.UNRESOLVED,
            f"neither it nor the control gets to half in {revivals.model.steps} steps, but it regains more than the "
            f"control: use more --steps",
        )
    assert found.probe_gap is not None
    gap, interval = found.probe_gap
    if interval.low > 0 and gap >= policy.probe_above:
        return (
            WrappingVerdict.UNRESOLVED,
            f"it is revived no sooner than in the control, but the old answer can be read linearly {gap:.0%} more "
            f"often",
        )
    how = "as slowly as" if revivals.ratio is not None else f"no more in {revivals.model.steps} steps than"
    return WrappingVerdict.REMOVED, f"fine-tuning revives it {how} in the control, and pruning few units does not"


def _held_by(curve: PrunedCurve) -> str:
    units, share = curve.chosen.units, float(np.mean(curve.share(curve.chosen.values)))
    return f"pruning {len(units)} {curve.kind}{'s' * (len(units) > 1)} revives {share:.0%} of the baseline's behaviour"
