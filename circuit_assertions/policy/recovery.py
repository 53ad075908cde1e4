"""Thresholds of recovery: how much of a loss is recovered, and by which heads."""

from __future__ import annotations

from circuit_assertions.policy.declaring import Below, Share, Thresholds, threshold
from circuit_assertions.verdict_words import Overall, RecoveryVerdict

__all__ = ["RecoveryThresholds"]

_OF_LOSS = "share of what the corrupted checkpoint lost"


class RecoveryThresholds(Thresholds):
    """RECOVERED, BYPASSED, PARTIAL, NOT RECOVERED."""

    recovered_above: Below = threshold(
        0.75,
        _OF_LOSS,
        f"A behaviour is {RecoveryVerdict.RECOVERED} or {RecoveryVerdict.BYPASSED} if the interval of the share "
        "that is recovered lies above it.",
        f"argument: the share of the behaviour below which a model is {Overall.CORRUPTED}, applied to the loss",
    )
    partial_above: Share = threshold(
        0.25,
        _OF_LOSS,
        f"A behaviour of which less is recovered is {RecoveryVerdict.NOT_RECOVERED}; from this on it is "
        f"{RecoveryVerdict.PARTIAL}.",
        "argument: the same distance from nothing as recovered-above has from everything",
    )
    recovery_keeps: Below = threshold(
        0.5,
        "share of the baseline's",
        f"A model is {RecoveryVerdict.BYPASSED} if a role keeps less of its effect than this, or if knocking out "
        "the heads that write the "
        "answer costs less than this share of what it costs on the baseline.",
        "argument: with less than half of the effect, other heads carry most of the behaviour",
    )
