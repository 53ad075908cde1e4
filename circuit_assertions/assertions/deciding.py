"""How many prompts would decide what is UNRESOLVED."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from circuit_assertions.assertions.expectation import Expectation
from circuit_assertions.assertions.judging import judge
from circuit_assertions.assertions.verdicts import Verdict
from circuit_assertions.measures.intervals import ALONE, Level
from circuit_assertions.measures.reading import Reading

__all__ = ["prompts_to_decide"]

_TIMES = (1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_MOST_VALUES = 4_000_000  # of one reading: 32 MB


def prompts_to_decide(
    reading: Reading,
    expect: Expectation,
    needed: int | str,
    *,
    baseline: Reading | None = None,
    everyone: Reading | None = None,
    level: Level = ALONE,
) -> int | None:
    """About how many prompts would decide an assertion, if further ones read as these do.

    The prompts that were read are taken several times over, and judged.

    Args:
        reading, expect, needed, baseline, everyone, level: what `judge` was told.

    Returns:
        None where not even 32 times as many would.
    """
    largest = max(one.values.size for one in (reading, everyone) if one is not None)
    for times in _TIMES:
        if times * largest > _MOST_VALUES:
            break
        own = _more(reading, times)
        before, ranked = (None if one is None else _more(one, times) for one in (baseline, everyone))
        judged = judge(own, expect, needed, baseline=before, everyone=ranked, level=level)
        if judged is not None and judged.verdict is not Verdict.UNRESOLVED:
            return own.prompts
    return None


def _more(reading: Reading, times: float) -> Reading:
    """The reading with its prompts taken several times over; the same prompts of every reading."""
    rows = np.arange(round(times * reading.prompts)) % reading.prompts
    return replace(reading, values=reading.values[rows], texts=())
