"""`retains: 80%`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from circuit_assertions.assertions.condition import Condition, Evidence, Told, Use, place
from circuit_assertions.assertions.spelling import Share
from circuit_assertions.assertions.verdicts import Finding, Verdict

__all__ = ["Retains"]


class Retains(Condition[float]):
    """A share of the baseline's reading is left, paired by prompt; in the direction that the reading has there."""

    key: ClassVar[str] = "retains"
    value_type: ClassVar[Any] = Share
    description: ClassVar[str] = "share of the baseline's reading that must be left, 80%"
    order: ClassVar[int] = 70
    needs_baseline: ClassVar[bool] = True
    own_interval: ClassVar[bool] = True
    single_prompts: ClassVar[bool | None] = True

    def describe(self, beside: tuple[Condition[Any], ...] = ()) -> str:
        return f"retains {self.value:.0%} of the baseline"

    def judge(self, evidence: Evidence) -> Finding:
        values, baseline = evidence.values, evidence.baseline
        assert baseline is not None
        before = evidence.interval_of_baseline
        if before.low <= 0 <= before.high:
            unclear = f"the baseline's own reading is not clear of zero {before}"
            return Finding(Verdict.UNRESOLVED, self.describe(), unclear)
        left = evidence.interval_beside(self.value)
        good = (0.0, np.inf) if before.low > 0 else (-np.inf, 0.0)
        return Finding(place(left, *good), self.describe(), f"{values.mean() / baseline.mean():.0%} of it")

    def missed(self, evidence: Evidence) -> float:
        assert evidence.baseline is not None
        (value,), (before,) = evidence.values, evidence.baseline
        if abs(before) <= evidence.rounding:
            return 0.0
        return float(np.sign(before) * (self.value * before - value))

    def problems(self, use: Use) -> Iterator[Told]:
        if use.spec.compares:
            yield (), f"{use.spec.name} is a share of the baseline already: use at-least"
