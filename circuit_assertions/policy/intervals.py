"""Thresholds of assertions, and the level of intervals."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from circuit_assertions.policy.declaring import Above, Level, Thresholds, threshold
from circuit_assertions.verdict_words import Outcome

__all__ = ["IntervalThresholds"]


class IntervalThresholds(Thresholds):
    """Assertions, and the level of intervals."""

    confidence: Level = threshold(
        0.99,
        "probability",
        "All intervals of a suite hold together with at least this probability; --circuit-confidence changes it.",
        "argument: of a hundred runs on a healthy checkpoint one may fail by chance; docs/quality.md has how often "
        "such intervals miss",
    )
    fewest_prompts: Annotated[int, Field(ge=2, le=100_000)] = threshold(
        16,
        "prompts",
        f"An assertion about a mean is {Outcome.UNRESOLVED} on fewer prompts.",
        "measured: docs/quality.md, of 16 prompts single means of exponential readings are missed no more often than "
        "they may be, and of 8 prompts more often",
    )
    further_prompts: Annotated[int, Field(ge=0, le=100_000)] = threshold(
        12,
        "prompts",
        "So many more are needed for each further digit of an interval's level (99.9 %, 99.99 %, ...).",
        "measured: docs/quality.md, then exponential readings are missed no more often than they may be where 12 and "
        "144 intervals must hold together",
    )
    amplified_above: Above = threshold(
        1.25,
        "share of the baseline's",
        "A reading, a behaviour or a role whose whole interval lies above this share of the baseline's is amplified.",
        "argument: the same distance from the baseline as corrupted-below, on the other side; the means of roles after "
        "the clean fine-tunings of docs/lab.md stay far below it",
    )
    calibration_margin: Above = threshold(
        4.0,
        "standard errors",
        "A tolerance of `calibrate` is the difference of the mean on one half of the prompts and so many standard "
        "errors of it; that of a single prompt is so many times the largest difference.",
        "measured: docs/calibrate.md, on prompts that were not used 1 of 3,200 tolerances of embedded models is "
        "exceeded with 4, and 10 with 3",
    )
    figure_confidence: Annotated[float, Field(ge=0.8, lt=1)] = threshold(
        0.95,
        "probability",
        "All intervals that one verdict of a diagnosis or a discovery rests on hold together with this probability.",
        "argument: the usual level, and for a whole verdict, not for one interval",
    )
