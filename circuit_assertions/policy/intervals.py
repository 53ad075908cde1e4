"""Thresholds of assertions, and the level of intervals."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from circuit_assertions.policy.declaring import Above, Level, Thresholds, threshold

__all__ = ["IntervalThresholds"]


class IntervalThresholds(Thresholds):
    """Assertions, and the level of intervals."""

    confidence: Level = threshold(
        0.95,
        "probability",
        "All intervals of one assertion hold together with at least this probability.",
        "argument: the usual level; docs/quality.md has how often such intervals miss",
    )
    fewest_prompts: Annotated[int, Field(ge=2, le=100_000)] = threshold(
        8,
        "prompts",
        "An assertion about a mean is UNRESOLVED on fewer prompts.",
        "measured: docs/quality.md, columns of 8 prompts: with one head, means of moderately skewed readings are "
        "missed about as often as they may be; of fewer prompts neither spread nor skewness can be estimated",
    )
    amplified_above: Above = threshold(
        1.25,
        "share of the baseline's",
        "A reading, a behaviour or a role whose whole interval lies above this share of the baseline's is amplified.",
        "argument: the same distance from the baseline as corrupted-below, on the other side; the means of roles after "
        "the clean fine-tunings of docs/lab.md stay far below it",
    )
    figure_confidence: Annotated[float, Field(ge=0.8, le=0.99)] = threshold(
        0.95,
        "probability",
        "Each interval of a diagnosis, a discovery or a trajectory holds with this probability; those of the heads of "
        "one role or one search hold together with it.",
        "argument: the usual level; at most 0.99, because 2,000 resamples show no rarer event",
    )
