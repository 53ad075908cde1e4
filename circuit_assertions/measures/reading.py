"""Readings: what a measure returned, prompt by prompt, with its mean, its interval and the settings it was taken under.

Intervals are 95 %: for a value, the percentile bootstrap over prompts (seeded, so that the same readings always give
the same interval); for a share of prompts, Wilson's score interval, because a bootstrap of a run without a single
failure has no width and would promise too much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.components import Component
from circuit_assertions.heads import Head
from circuit_assertions.measures.registry import MEASURES

__all__ = ["CONFIDENCE", "Interval", "Reading", "bootstrap_means", "interval_of_mean", "interval_of_share"]

Array = NDArray[np.float64]

CONFIDENCE = 0.95
_RESAMPLES = 2000
_BLOCK = 250  # resamples drawn together
_MOST_KEPT = 4096  # prompts up to which drawn weights are kept for the next reading: 8 MB a block
_Z = 1.959963984540054  # the normal quantile that leaves 2.5 % on either side


class Interval(NamedTuple):
    """A two-sided interval, in the unit of its measure."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Reading:
    """What one measure read from one model on one task.

    Attributes:
        values: one value per prompt, [prompts], or per prompt and column, [prompts, components]; float64, finite.
        components: the columns of `values`, heads or others; empty for measures of the whole model.
        settings: everything that another reading must share to be compared with this one.
        texts: the prompts as text, for explaining the worst of them.
        beside: what the reading is compared with, by name, each [prompts]: the result of random circuits.
    """

    measure: str
    unit: str
    kind: str
    values: Array
    components: tuple[Component, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    texts: Sequence[str] = ()
    beside: Mapping[str, Array] = field(default_factory=dict)

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

    def __ge__(self, bound: float) -> bool:
        """Whether every head's interval lies at or above `bound`; so for `>`, and below for `<=` and `<`.

        Raises:
            CircuitAssertionsError: if the bound lies outside of the measure's range, as in a suite.
        """
        return self._lies(bound, lambda interval: interval.low >= bound)

    def __gt__(self, bound: float) -> bool:
        return self._lies(bound, lambda interval: interval.low > bound)

    def __le__(self, bound: float) -> bool:
        return self._lies(bound, lambda interval: interval.high <= bound)

    def __lt__(self, bound: float) -> bool:
        return self._lies(bound, lambda interval: interval.high < bound)

    def __bool__(self) -> bool:
        """A reading is neither true nor false.

        Raises:
            CircuitAssertionsError: always; `assert audit.measure(...)` would hold whatever was read.
        """
        raise CircuitAssertionsError(
            f"a reading is neither true nor false: compare {self.measure} with a number, as in `>= 0.9`"
        )

    def _lies(self, bound: float, good: Callable[[Interval], bool]) -> bool:
        if isinstance(bound, bool) or not isinstance(bound, (int, float, np.integer, np.floating)):
            return NotImplemented  # type: ignore[no-any-return]
        spec = MEASURES.get(self.measure)
        if spec is not None and spec.is_outside(float(bound)):
            raise CircuitAssertionsError(
                f"{spec.name} {spec.range_text}: a comparison with {bound:g} always has the same result"
                f"{spec.meant(float(bound))}"
            )
        return all(good(self.interval(values)) for _, values in self.columns())

    def interval(self, values: Array) -> Interval:
        """The interval of the mean of some of this reading's values [prompts]."""
        return interval_of_share(values) if self.kind == "share" else interval_of_mean(values)


def interval_of_mean(values: Array) -> Interval:
    """Percentile bootstrap of the mean of `values` [prompts]."""
    # Resampled around the first value: where all are the same, weights that sum to 1 only nearly must not matter.
    means = values[0] + bootstrap_means(values[:, None] - values[0])[:, 0]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(low), float(high))


def interval_of_share(hits: Array) -> Interval:
    """Wilson's score interval for the share of ones among `hits` [prompts] (Wilson 1927)."""
    count, share = hits.size, float(hits.mean())
    middle = share + _Z**2 / (2 * count)
    spread = _Z * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    scale = 1 + _Z**2 / count
    # At the ends the interval reaches 0 or 1 exactly, which rounding would miss by a hair and a bound would notice.
    low = 0.0 if share == 0.0 else max(0.0, float((middle - spread) / scale))
    high = 1.0 if share == 1.0 else min(1.0, float((middle + spread) / scale))
    return Interval(low, high)


def bootstrap_means(values: Array) -> Array:
    """Means of `values` [prompts, columns] over resampled prompts -> [resamples, columns].

    Every call with as many prompts draws the same prompts, so that columns, measures and checkpoints stay paired.
    """
    prompts = values.shape[0]
    draw = _kept_weights if prompts <= _MOST_KEPT else _weights
    return np.concatenate([draw(prompts, block) @ values for block in range(_RESAMPLES // _BLOCK)])


def _weights(prompts: int, block: int) -> Array:
    """How often each prompt is drawn in each resample of a block, over the number of prompts [block, prompts]."""
    generator = np.random.default_rng((20221101, block))
    counts = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=_BLOCK)
    return counts.astype(np.float64) / prompts


_kept_weights = lru_cache(maxsize=64)(_weights)
