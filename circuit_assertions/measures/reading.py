"""Readings: what a measure returned, prompt by prompt, with its mean and the settings it was taken under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.components import Component
from circuit_assertions.heads import Head
from circuit_assertions.measures import intervals
from circuit_assertions.measures.intervals import Interval, Level
from circuit_assertions.measures.registry import MEASURES

__all__ = ["Interval", "Reading", "is_number"]

Array = NDArray[np.float64]

_NOTHING = 5e-7  # shown as 0: what sums in another order leave of it


@dataclass(frozen=True, eq=False, repr=False)
class Reading:
    """What one measure read from one model on one task.

    Its text is the same on every machine (three significant digits, no path), so that syrupy can keep it:
    `assert reading == snapshot`.

    Attributes:
        values: one value per prompt, [prompts], or per prompt and column, [prompts, components]; float64, finite.
        components: the columns of `values`, heads or others; empty for measures of the whole model.
        settings: everything that another reading must share to be compared with this one.
        texts: the prompts as text, for explaining the worst of them.
        templates: which template each prompt was made from; empty where that is not known.
        beside: what the reading is compared with, by name, each [prompts]: the result of random circuits.
        rounding: the size below which a value is rounding and has no sign, in the reading's unit.
        hashes: of the token ids of each prompt that was read; empty where that is not known.
        alone: whether the value of a prompt is the same whichever other prompts are read.
    """

    measure: str
    unit: str
    kind: str
    values: Array
    components: tuple[Component, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    texts: Sequence[str] = ()
    templates: Sequence[str] = ()
    beside: Mapping[str, Array] = field(default_factory=dict)
    rounding: float = 0.0
    hashes: Sequence[str] = ()
    alone: bool = False

    @property
    def prompts(self) -> int:
        """How many prompts were read."""
        return int(self.values.shape[0])

    @property
    def mean(self) -> float:
        """Mean over prompts (and heads)."""
        return float(self.values.mean())

    @property
    def heads(self) -> tuple[Head, ...]:
        """Those of the components that are heads."""
        return tuple(component for component in self.components if isinstance(component, Head))

    def of_head(self, head: Component) -> Array:
        """The values of a head or other component [prompts]."""
        column: Array = self.values[:, self.components.index(head)]
        return column

    def columns(self) -> list[tuple[Component | None, Array]]:
        """The heads (or components) with their values [prompts]; a single None for measures that have no heads."""
        if not self.components:
            return [(None, self.values)]
        return [(component, self.values[:, index]) for index, component in enumerate(self.components)]

    def only(self, components: Sequence[Component]) -> Reading:
        """The same reading for some of its components, in the order given."""
        indices = [self.components.index(component) for component in components]
        return replace(self, values=self.values[:, indices], components=tuple(components))

    def of_prompts(self, rows: Sequence[int]) -> Reading:
        """The same reading for some of its prompts, in the order given; a prompt may come several times."""
        kept = {"texts": self.texts, "templates": self.templates, "hashes": self.hashes}
        some: dict[str, Any] = {name: [one[row] for row in rows] if one else () for name, one in kept.items()}
        beside = {name: values[list(rows)] for name, values in self.beside.items()}
        return replace(self, values=self.values[list(rows)], beside=beside, **some)

    def __ge__(self, bound: float) -> bool:
        """Whether every head's interval lies at or above `bound`; so for `>`, and below for `<=` and `<`.

        Raises:
            CircuitAssertionsError: if the bound lies outside of the measure's range, as in a suite.
        """
        return self._holds(">=", bound)

    def __gt__(self, bound: float) -> bool:
        return self._holds(">", bound)

    def __le__(self, bound: float) -> bool:
        return self._holds("<=", bound)

    def __lt__(self, bound: float) -> bool:
        return self._holds("<", bound)

    def __bool__(self) -> bool:
        """A reading is neither true nor false.

        Raises:
            CircuitAssertionsError: always; `assert audit.measure(...)` would hold whatever was read.
        """
        raise CircuitAssertionsError(
            f"a reading is neither true nor false: compare {self.measure} with a number, as in `>= 0.9`"
        )

    def __eq__(self, other: object) -> bool:
        """Whether another reading has the same columns and values, to the last digit.

        Raises:
            CircuitAssertionsError: if `other` is a number: a mean of prompts is never exactly one.
        """
        if is_number(other):
            raise CircuitAssertionsError(f"{self.measure} was read with an interval: compare it with `>=` or `<=`")
        if not isinstance(other, Reading):
            return NotImplemented
        same = (self.measure, self.unit, self.components) == (other.measure, other.unit, other.components)
        return same and np.array_equal(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        asked = f", tokens {self.settings['token_hash'][:12]}" if "token_hash" in self.settings else ""
        lines = [f"Reading of {self.measure} in {self.unit} over {self.prompts} prompts{asked}{self._under}"]
        width = max((len(str(component)) for component in self.components), default=0)
        for component, values, interval in self.judged_columns():
            low, high = map(_rounded, interval)
            name = f"{component!s:<{width}} " if component is not None else ""
            lines.append(f"  {name}{_rounded(float(values.mean()))} [{low}, {high}]")
        return "\n".join(lines)

    @property
    def _under(self) -> str:
        """`, in bfloat16 on cpu`, where it was not read as usual."""
        model = self.settings.get("model", {})
        dtype, device = model.get("dtype", "float32"), model.get("device", "cpu")
        return "" if (dtype, device) == ("float32", "cpu") else f", in {dtype} on {device}"

    def _holds(self, operator: str, bound: float) -> bool:
        if not is_number(bound):
            return NotImplemented  # type: ignore[no-any-return]
        spec = MEASURES.get(self.measure)
        if spec is not None and spec.is_outside(float(bound)):
            raise CircuitAssertionsError(
                f"{spec.name} {spec.range_text}: a comparison with {bound:g} always has the same result"
                f"{spec.meant(float(bound))}"
            )
        return all(intervals.HOLDS[operator](interval, bound) for _, _, interval in self.judged_columns())

    def judged_columns(self) -> list[tuple[Component | None, Array, Interval]]:
        """The columns with the intervals that a verdict on all of them together rests on."""
        columns = self.columns()
        level = intervals.ALONE.among(len(columns))
        return [(one, values, self.interval(values, level)) for one, values in columns]

    def interval(self, values: Array, level: Level) -> Interval:
        """The interval of the mean of some of this reading's values [prompts]."""
        if self.kind == "share":
            return intervals.interval_of_share(values, level)
        spec = MEASURES.get(self.measure)
        return intervals.interval_of_mean(values, level, (None, None) if spec is None else spec.limits)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a reading can be compared with it; True and False are no numbers."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _rounded(value: float) -> str:
    return "0" if abs(value) < _NOTHING else f"{value:.3g}"
