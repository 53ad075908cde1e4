"""What conditions that bound a mean by numbers have in common: which numbers no reading can meet, or every one does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np

from circuit_assertions.assertions.condition import Condition, Evidence, Told, Use, place
from circuit_assertions.assertions.proposed import Bound, Proposed, Sourced
from circuit_assertions.assertions.spelling import Percent
from circuit_assertions.assertions.verdicts import Finding
from circuit_assertions.measures import Measure
from circuit_assertions.measures.intervals import interval_of_share
from circuit_assertions.measures.tolerances import Setting
from circuit_assertions.tasks import Task

__all__ = ["BoundCondition", "bounds_found_in", "share_problem", "unit_problem"]


class BoundCondition(Condition[float | Proposed]):
    """One bound, which a circuit file may propose.

    Attributes:
        is_lower: whether values above it are good.
    """

    value_type: ClassVar[Any] = Bound
    by_prompt: ClassVar[bool] = True
    is_lower: ClassVar[bool]

    @property
    def bound(self) -> float | None:
        """The number; where a circuit file may propose one, what stands where it proposes none."""
        return self.value.otherwise if isinstance(self.value, Proposed) else self.value

    @property
    def number(self) -> float:
        """The number, where there is one: what no circuit file proposes is left out before anything is judged."""
        assert self.bound is not None
        return self.bound

    @property
    def limits(self) -> tuple[float | None, float | None]:
        return (self.bound, None) if self.is_lower else (None, self.bound)

    def describe(self, beside: tuple[Condition[Any], ...] = ()) -> str:
        words = self.key.replace("-", " ")
        bound = self.bound
        if bound is None:
            return f"{words} what the circuit file proposes"
        return f"{words} {bound:g} ({bound.source})" if isinstance(bound, Sourced) else f"{words} {bound:g}"

    def good_range(self, evidence: Evidence) -> tuple[float, float]:
        return (self.number, np.inf) if self.is_lower else (-np.inf, self.number)

    def judge(self, evidence: Evidence) -> Finding:
        return Finding(place(evidence.interval, *self.good_range(evidence)), self.describe())

    def problems(self, use: Use) -> Iterator[Told]:
        if self.bound is None:
            return
        keys, by_prompt = (("otherwise",) if isinstance(self.value, Proposed) else ()), use.taken_in(self)
        problem = unit_problem(use.spec, self.bound)
        if not problem and not (by_prompt and use.spec.of_means):
            problem = self.range_problem(use.spec) or (
                "" if by_prompt or use.task is None else self.end_problem(use.spec)
            )
        if problem:
            yield keys, problem
        if problem or by_prompt or not use.spec.hits or use.task is None:
            return
        if problem := share_problem(use.spec, use.task, self.bound, self.is_lower):
            yield keys, problem

    def range_problem(self, spec: Measure) -> str:
        """Why the bound can never hold or never fail for readings of this measure; empty where it can do both."""
        low, high, bound = spec.lowest, spec.highest, self.number
        if (high is not None and bound > high) if self.is_lower else (low is not None and bound < low):
            never = "hold"
        elif (low is not None and bound <= low) if self.is_lower else (high is not None and bound >= high):
            never = "fail"
        else:
            return ""
        return f"{spec.name} {spec.range_text}: {self.key} {bound:g} can never {never}{spec.meant(bound)}"

    def end_problem(self, spec: Measure) -> str:
        """Why no prompts show that a mean lies exactly at the end of its range; empty for bounds within it."""
        end = spec.highest if self.is_lower else spec.lowest
        if spec.of_means or None in (spec.lowest, spec.highest) or self.number != end:
            return ""
        return (
            f"{spec.name} {spec.range_text}, and no number of prompts shows that its mean is exactly {end:g}, so "
            f"{self.key} {end:g} can never hold: use another bound"
        )

    @property
    def requires_nothing(self) -> bool:
        """Whether all but reversed effects meet it."""
        return self.is_lower and self.number <= 0

    def eased(self, share: float) -> float:
        """A bound that is easier to meet: less of what must be there, more of what must not."""
        return self.number * share if self.is_lower or self.number < 0 else self.number / share


def bounds_found_in(conditions: Iterable[Condition[Any]]) -> Setting | None:
    """The setting under which bounds out of a circuit file were measured; None where there are none."""
    return next((one.value.found_in for one in conditions if isinstance(one.value, Sourced)), None)


def unit_problem(spec: Measure, bound: float) -> str:
    """Why a bound that is written as a share does not fit the measure's unit; empty where it does."""
    if not isinstance(bound, Percent) or spec.is_share:
        return ""
    return (
        f"{100 * bound:g}% is a share, and {spec.name} is read in {spec.unit}: give a number, or `retains:` for a "
        f"share of the baseline's reading"
    )


def share_problem(spec: Measure, task: Task, bound: float, is_lower: bool) -> str:
    """Why a share of prompts stays open even where every prompt is met, or none is (Clopper and Pearson's interval)."""
    prompts = task.budget
    most, least = interval_of_share(np.ones(prompts)).low, interval_of_share(np.zeros(prompts)).high
    if not (bound > most if is_lower else bound < least) or spec.is_outside(bound):
        return ""
    shown = f"above {most:.3f}" if is_lower else f"below {least:.3f}"
    return (
        f"{prompts} prompts can never show that a share is {shown}, so {bound:g} can never hold: use more prompts, or "
        "another bound"
    )
