"""`between: [0.9, 1.1]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator

from circuit_assertions.assertions.bounds import share_problem, unit_problem
from circuit_assertions.assertions.condition import Condition, Evidence, Told, Use, place
from circuit_assertions.assertions.spelling import Number
from circuit_assertions.assertions.verdicts import Finding

__all__ = ["Between"]


def _ordered(between: tuple[float, float]) -> tuple[float, float]:
    low, high = between
    if low == high:
        raise ValueError(f"both bounds are {low:g}: give a lower and a higher one, or at-least or at-most")
    if low > high:
        raise ValueError(f"the lower bound comes first: [{high}, {low}]")
    return between


class Between(Condition[tuple[float, float]]):
    """The whole interval lies between two numbers."""

    key: ClassVar[str] = "between"
    value_type: ClassVar[Any] = Annotated[tuple[Number, Number], AfterValidator(_ordered)]
    description: ClassVar[str] = "the mean lies between these two"
    order: ClassVar[int] = 30
    by_prompt: ClassVar[bool] = True

    @property
    def limits(self) -> tuple[float | None, float | None]:
        return self.value

    def describe(self, beside: tuple[Condition[Any], ...] = ()) -> str:
        return f"between {self.value[0]:g} and {self.value[1]:g}"

    def good_range(self, evidence: Evidence) -> tuple[float, float]:
        return self.value

    def judge(self, evidence: Evidence) -> Finding:
        return Finding(place(evidence.interval, *self.value), self.describe())

    def problems(self, use: Use) -> Iterator[Told]:
        spec, by_prompt = use.spec, use.taken_in(self)
        outside = [bound for bound in self.value if spec.is_outside(bound)]
        unit = next((problem for problem in (unit_problem(spec, bound) for bound in self.value) if problem), "")
        if unit:
            yield (), unit
        elif outside and not (by_prompt and spec.of_means):
            yield (), f"{spec.name} {spec.range_text}: {outside[0]:g} lies outside{spec.meant(outside[0])}"
        elif self.value == (spec.lowest, spec.highest):
            yield (), f"{spec.name} {spec.range_text}: this can never fail"
        if not by_prompt and spec.hits and use.task is not None:
            for bound, is_lower in zip(self.value, (True, False), strict=True):
                if problem := share_problem(spec, use.task, bound, is_lower):
                    yield (), problem
