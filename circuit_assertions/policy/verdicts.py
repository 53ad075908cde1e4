"""Thresholds of the verdict of a diagnosis: the behaviour, its roles, and single heads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from circuit_assertions.policy.declaring import Above, Below, Count, Share, Thresholds, threshold
from circuit_assertions.verdict_words import Overall

__all__ = ["HeadThresholds", "VerdictThresholds"]

_OF_BEHAVIOUR = "share of the baseline's behaviour"
_OF_EFFECT = "share of the baseline's effect"


class VerdictThresholds(Thresholds):
    """CORRUPTED, DEGRADED, AMPLIFIED, INTACT."""

    fewest_compared_prompts: Annotated[int, Field(ge=4, le=100_000)] = threshold(
        16,
        "different prompts",
        "A diagnosis, a discovery or a trajectory on fewer different prompts is refused.",
        "argument: a third of them reports an origin, and fewer than 5 show neither the spread nor the skewness of a "
        "mean",
    )
    compared_prompts: Count = threshold(
        128,
        "prompts",
        "A diagnosis or a trajectory reads at most so many prompts of a task, unless their number is given.",
        "argument: with 42 prompts to report an origin, the intervals of the laboratory's shares are a few per "
        "cent wide (docs/lab.md), and the time of a diagnosis grows with the prompts",
    )
    corrupted_below: Below = threshold(
        0.75,
        _OF_BEHAVIOUR,
        f"A model whose mean behaviour is below it, and that has clearly lost least-lost, is {Overall.CORRUPTED}.",
        "measured: docs/quality.md, setting cases: no harmless fine-tuning loses more than 5 %; the bound lies five "
        "times as far away",
    )
    degraded_below: Below = threshold(
        0.95,
        _OF_BEHAVIOUR,
        f"A model whose behaviour lies below it with its whole interval is at least {Overall.DEGRADED}.",
        "measured: docs/quality.md, setting cases: the upper ends of intervals after harmless fine-tuning, their mean "
        "less three standard deviations",
    )
    corrupted_role_below: Below = threshold(
        0.5,
        _OF_EFFECT,
        f"A model with an active role whose effect lies below it with its whole interval is {Overall.CORRUPTED}.",
        "argument: a role with less than half of its effect is no longer what carries the behaviour; no harmless "
        "setting case of docs/quality.md comes near to it",
    )
    degraded_role_below: Below = threshold(
        0.88,
        _OF_EFFECT,
        "A model with an active role whose effect lies below it with its whole interval is at least "
        f"{Overall.DEGRADED}.",
        "measured: docs/quality.md, setting cases: the lowest upper end of an active role's interval after harmless "
        "fine-tuning",
    )
    weaker_role_below: Below = threshold(
        0.75,
        _OF_EFFECT,
        "A role whose effect lies below it with its whole interval is called weaker, and a role whose mean is below it "
        "does not work.",
        f"argument: the share of the behaviour below which a model is {Overall.CORRUPTED}, applied to a role",
    )
    reversed_role_below: Annotated[float, Field(ge=-1, lt=0)] = threshold(
        -0.1,
        _OF_EFFECT,
        "A role whose mean effect is at most this is described as reversed; closer to zero it keeps none of its "
        "effect.",
        "argument: a tenth, as in least-lost: a smaller reversed effect is not distinguishable from none",
    )
    least_lost: Share = threshold(
        0.1,
        _OF_BEHAVIOUR,
        "An origin is searched, and recovery measured, only where at least this is lost.",
        "argument: a share of a loss is a ratio, and its interval is too wide to name components where the loss is "
        "small",
    )
    telling_excess: Share = threshold(
        0.1,
        "share of the change of all heads",
        "The share of the change inside the circuit is reported as informative if it is larger than that of random "
        "heads by this.",
        "argument: a circuit with most heads of its layers has most of any change, so that a smaller excess shows "
        "nothing",
    )


class HeadThresholds(Thresholds):
    """One head beside itself on the baseline."""

    negligible_effect: Share = threshold(
        0.02,
        "share of the baseline's logit difference",
        "An effect of a head, or a change of it, below this counts as none.",
        "argument: the smallest effect by which discovery counts a head; smaller effects of single heads do not carry "
        "a behaviour",
    )
    head_silenced_below: Share = threshold(
        0.2,
        _OF_EFFECT,
        "A head whose effect has clearly changed, to less than this, is silenced; with the opposite sign and at least "
        "this size, its sign is unclear or flipped.",
        "argument: a fifth of an effect is near to none, and leaves room for the noise of a head that was removed",
    )
    head_weakened_below: Share = threshold(
        0.75,
        _OF_EFFECT,
        "A head whose effect has clearly changed, to less than this, is weakened.",
        f"argument: the share of the behaviour below which a model is {Overall.CORRUPTED}, applied to a head",
    )
    head_amplified_above: Above = threshold(
        1.25,
        _OF_EFFECT,
        "A head whose effect has clearly changed, to more than this, is amplified.",
        "argument: the same distance from the baseline as head-weakened-below, on the other side",
    )
    head_attention_below: Share = threshold(
        0.5,
        "share of the baseline's attention",
        "The attention of a head has moved if it is clearly less, and less than this.",
        "argument: a head that attends to its position less than half as much attends to something else",
    )
