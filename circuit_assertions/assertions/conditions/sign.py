"""`sign: positive`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np

from circuit_assertions.assertions.condition import Condition, Evidence, Told, Use, place
from circuit_assertions.assertions.verdicts import Finding

__all__ = ["Sign"]

Side = Literal["positive", "negative"]


class Sign(Condition[Side]):
    """The whole interval lies on one side of zero, and is not rounding."""

    key: ClassVar[str] = "sign"
    value_type: ClassVar[Any] = Side
    description: ClassVar[str] = "the mean is clear of zero on this side"
    order: ClassVar[int] = 40
    by_prompt: ClassVar[bool] = True

    @property
    def low_is_good(self) -> bool:
        return self.value == "negative"

    @property
    def ranks_from_below(self) -> bool:
        return self.value == "negative"

    def describe(self, beside: tuple[Condition[Any], ...] = ()) -> str:
        return self.value

    def good_range(self, evidence: Evidence) -> tuple[float, float]:
        least = evidence.smallest_sign
        return (least, np.inf) if self.value == "positive" else (-np.inf, -least)

    def judge(self, evidence: Evidence) -> Finding:
        return Finding(place(evidence.interval, *self.good_range(evidence)), self.describe())

    def problems(self, use: Use) -> Iterator[Told]:
        spec = use.spec
        low, high = spec.range_on(use.task)
        if use.taken_in(self) and spec.of_means:
            return
        for only, other, one_sided in (
            ("positive", "negative", low is not None and low >= 0),
            ("negative", "positive", high is not None and high <= 0),
        ):
            if one_sided:
                never = "fail" if self.value == only else "hold"
                yield (), f"{spec.name} is never {other}, so `sign: {self.value}` can never {never}: give a bound"
