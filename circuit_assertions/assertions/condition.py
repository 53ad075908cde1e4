"""What a condition of `expect` is: its key and type, how it is judged and described, and what can be wrong with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from circuit_assertions.assertions.verdicts import Finding, Verdict
from circuit_assertions.components import Component
from circuit_assertions.measures import Measure
from circuit_assertions.measures.intervals import (
    ALONE,
    Interval,
    Level,
    interval_of_mean,
    interval_of_paired_rates,
    interval_of_share,
    intervals_of_means,
)
from circuit_assertions.measures.reading import Array, Reading
from circuit_assertions.measures.tolerances import NO_TOLERANCE, Tolerance
from circuit_assertions.tasks import Task

__all__ = ["Condition", "Evidence", "Told", "Use", "place"]

_SMALLEST = float(np.nextafter(0.0, 1.0))

Value = TypeVar("Value")
Told = tuple[tuple[str, ...], str]  # keys below the condition's own, and what is wrong


@dataclass(frozen=True)
class Condition(ABC, Generic[Value]):
    """One condition of `expect`, with the value that a suite gives it.

    A class of this kind is the whole declaration of a condition. Those of this package are the modules of
    `assertions/conditions`; other packages offer theirs by an entry point of the group `circuit_assertions.conditions`.

    Attributes:
        key: its key under `expect:`, in kebab-case.
        value_type: the type of the value, as pydantic validates it.
        description: what the value means, for the JSON Schema of suites.
        order: where it stands among the conditions in texts; lower ones come first.
        needs_baseline: whether it is judged against the same reading of the baseline.
        ranks: whether it is judged against the reading of all heads (or other components) of the model.
        by_prompt: whether single prompts can meet it; then `good_range` says which do.
        modifies: whether it only changes how other conditions are judged, and expects nothing alone.
        own_interval: whether it is judged by another interval than that of the mean, so that there is one more to hold.
        exact: whether it is judged without an interval, so that any number of prompts decides it.
        single_prompts: whether one prompt can miss it; default, whether it is met `by_prompt`.
    """

    key: ClassVar[str]
    value_type: ClassVar[Any]
    description: ClassVar[str]
    order: ClassVar[int] = 100
    needs_baseline: ClassVar[bool] = False
    ranks: ClassVar[bool] = False
    by_prompt: ClassVar[bool] = False
    modifies: ClassVar[bool] = False
    own_interval: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    single_prompts: ClassVar[bool | None] = None

    value: Value

    @abstractmethod
    def describe(self, beside: tuple[Condition[Any], ...] = ()) -> str:
        """The condition in words, as they follow "expected": `at least 0.45`.

        Args:
            beside: all conditions of the same expectation.
        """

    @abstractmethod
    def judge(self, evidence: Evidence) -> Finding:
        """Judge one head, or one mean, or the whole model.

        It is asked only where there is what `needs_baseline` and `ranks` say that it needs.
        """

    def problems(self, use: Use) -> Iterator[Told]:
        """What can never hold or never fail, whatever the model: (keys below its own, message) pairs."""
        yield from ()

    def never_fails_among(self, ranked: int) -> bool:
        """Whether it holds for every head where there are only so many to rank."""
        return False

    def good_range(self, evidence: Evidence) -> tuple[float, float]:
        """The range, ends included, of the values that meet it, where it can be met by single prompts."""
        raise NotImplementedError(f"{self.key} cannot be met by single prompts")

    @classmethod
    def can_be_missed(cls) -> bool:
        """Whether a single prompt can miss it."""
        return cls.by_prompt if cls.single_prompts is None else cls.single_prompts

    def missed(self, evidence: Evidence) -> float:
        """By how much the value of a single prompt misses it, in the unit of the reading; at most 0 where it meets it.

        It is asked only where a single prompt can miss it.
        """
        (value,), (low, high) = evidence.values, self.good_range(evidence)
        return float(max(low - value, value - high))

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The numbers between which the mean must lie, lower one first; None where there is none."""
        return None, None

    @property
    def low_is_good(self) -> bool:
        """Whether the best readings are the lowest."""
        return False

    @property
    def ranks_from_below(self) -> bool:
        """Whether ranks beside it are counted from the lowest reading."""
        return False

    def takes_in(self, other: Condition[Any]) -> bool:
        """Whether it judges another condition of the same expectation in that one's place."""
        return False


@dataclass(frozen=True)
class Evidence:
    """What one row is judged by.

    Attributes:
        values: one for each prompt [prompts].
        interval: that of their mean.
        unit: of the values.
        rounding: the size below which a value is rounding, in that unit.
        component: the head or other component that was read; None for means and for the whole model.
        baseline: the same reading of the baseline [prompts]; None where there is none.
        everyone: the reading of all components of the model, where ranks are judged.
        beside: all conditions of the expectation.
        level: how sure each interval must be.
        hits: whether values are hits, 0 or 1 for each prompt.
        limits: the lowest and the highest value that a prompt can have, where there are such.
        of_baseline: how far the baseline may differ because it was read under another setting.
        of_bounds: how far bounds of a circuit file may, because they were measured under another setting. `interval`
            is already that much wider.
    """

    values: Array
    interval: Interval
    unit: str
    rounding: float = 0.0
    component: Component | None = None
    baseline: Array | None = None
    everyone: Reading | None = None
    beside: tuple[Condition[Any], ...] = field(default=())
    level: Level = field(default=ALONE)
    hits: bool = False
    limits: tuple[float | None, float | None] = (None, None)
    of_baseline: Tolerance = NO_TOLERANCE
    of_bounds: Tolerance = NO_TOLERANCE

    def interval_of(self, values: Array) -> Interval:
        """The interval of the mean of other values [prompts], wider by the tolerance of the baseline."""
        return self.of_baseline.widened(interval_of_mean(values, self.level))

    def intervals_of(self, values: Array) -> Array:
        """The intervals of the means of several columns [prompts, columns] -> [columns, low and high]."""
        return intervals_of_means(values, self.level.among(values.shape[1]))

    @property
    def interval_of_baseline(self) -> Interval:
        """The interval of the baseline's mean, where there is a baseline, wider by its tolerance."""
        assert self.baseline is not None
        if self._are_hits:
            return self.of_baseline.widened(interval_of_share(self.baseline, self.level))
        return self.of_baseline.widened(interval_of_mean(self.baseline, self.level, self.limits))

    def interval_beside(self, share: float) -> Interval:
        """The interval of the mean less a share of the baseline's, paired by prompt, where there is a baseline.

        It is wider by the baseline's tolerance.
        """
        assert self.baseline is not None
        if self._are_hits:
            return self.of_baseline.widened(interval_of_paired_rates(self.values, self.baseline, self.level, share))
        low, high = self.limits
        limits = (None, None) if low is None or high is None else (low - share * high, high - share * low)
        return self.of_baseline.widened(interval_of_mean(self.values - share * self.baseline, self.level, limits))

    @property
    def _are_hits(self) -> bool:
        """Whether both readings are hits; a mean over several heads is none."""
        both = np.concatenate([self.values, self.values if self.baseline is None else self.baseline])
        return self.hits and bool(np.isin(both, (0.0, 1.0)).all())

    @property
    def smallest_sign(self) -> float:
        """The smallest value that counts as positive; zero never does."""
        return max(self.rounding, _SMALLEST)

    def suffices(self, condition: Condition[Any]) -> bool:
        """Whether there is what a condition needs."""
        if condition.needs_baseline and self.baseline is None:
            return False
        return not condition.ranks or (self.component is not None and self.everyone is not None)


@dataclass(frozen=True)
class Use:
    """How a suite uses an expectation: what is known of it without a model.

    Attributes:
        task: what is asked; None where it is not valid.
        needed: how many heads must meet the expectation, `each`, or `mean`.
        beside: all conditions of the expectation.
    """

    spec: Measure
    task: Task | None = None
    needed: int | str = "each"
    beside: tuple[Condition[Any], ...] = ()

    def taken_in(self, condition: Condition[Any]) -> bool:
        """Whether another condition judges this one, prompt by prompt."""
        return any(one.takes_in(condition) for one in self.beside)


def place(interval: Interval, low: float, high: float) -> Verdict:
    """The verdict of an interval where the values from `low` to `high` are good."""
    if low <= interval.low and interval.high <= high:
        return Verdict.HELD
    if interval.high < low or interval.low > high:
        return Verdict.BROKEN
    return Verdict.UNRESOLVED
