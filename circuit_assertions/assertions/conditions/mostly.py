"""`mostly: 90%`: the bounds beside it are met by that share of the prompts, instead of by the mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from circuit_assertions.assertions.bounds import share_problem
from circuit_assertions.assertions.condition import Condition, Evidence, Told, Use, place
from circuit_assertions.assertions.spelling import Share
from circuit_assertions.assertions.verdicts import Finding
from circuit_assertions.measures.intervals import Interval, interval_of_share
from circuit_assertions.measures.reading import Array

__all__ = ["Mostly"]


class Mostly(Condition[float]):
    """The whole interval of the share of prompts that meet all bounds beside it lies at or above a share."""

    key: ClassVar[str] = "mostly"
    value_type: ClassVar[Any] = Share
    description: ClassVar[str] = "share of prompts for which the bounds must hold, 90%"
    order: ClassVar[int] = 50
    modifies: ClassVar[bool] = True
    own_interval: ClassVar[bool] = True

    def takes_in(self, other: Condition[Any]) -> bool:
        return other.by_prompt

    def describe(self, beside: tuple[Condition[Any], ...] = ()) -> str:
        bounds = " and ".join(one.describe(beside) for one in beside if self.takes_in(one))
        return f"{bounds} for {self.value:.0%} of prompts"

    def judge(self, evidence: Evidence) -> Finding:
        values = evidence.values
        ranges = [one.good_range(evidence) for one in evidence.beside if self.takes_in(one)]

        def meeting(slack: float) -> Array:
            within = [(values >= low - slack) & (values <= high + slack) for low, high in ranges]
            found: Array = np.logical_and.reduce(within).astype(np.float64)
            return found

        met, slack = meeting(0.0), evidence.of_bounds.prompt
        share = interval_of_share(met, evidence.level)
        if slack:
            # Prompts that lie nearer to a bound than its tolerance may or may not meet it.
            certain, possible = (interval_of_share(meeting(sign * slack), evidence.level) for sign in (-1, 1))
            share = Interval(certain.low, possible.high)
        read = f"met by {met.mean():.1%} [{share.low:.1%}, {share.high:.1%}]"
        return Finding(place(share, self.value, np.inf), self.describe(evidence.beside), read)

    def problems(self, use: Use) -> Iterator[Told]:
        if use.task is not None and (problem := share_problem(use.spec, use.task, self.value, is_lower=True)):
            yield (), problem
