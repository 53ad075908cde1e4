"""`expect:` as pydantic validates it: one key for each condition that is registered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, create_model, model_validator

from circuit_assertions.assertions.condition import Condition, Use
from circuit_assertions.assertions.registry import registry
from circuit_assertions.measures import Measure
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import Strict

__all__ = ["Expectation"]


class _Expected(Strict):
    """What a reading must satisfy. Several together must all hold."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        known, given = registry().conditions.values(), self.conditions
        if self.is_empty:
            alone = [condition.key for condition in known if not condition.modifies]
            raise ValueError(f"nothing is expected: give {_either(alone)}")
        for condition in given:
            if condition.modifies and not any(condition.takes_in(other) for other in given):
                able = [one.key for one in known if one.by_prompt]
                raise ValueError(f"`{condition.key}` needs a bound that prompts can meet: {_either(able)}")
        lows = [(low, one.key) for one in given if (low := one.limits[0]) is not None]
        highs = [(high, one.key) for one in given if (high := one.limits[1]) is not None]
        if lows and highs and max(lows)[0] > min(highs)[0]:
            raise ValueError(f"{max(lows)[1]} lies above {min(highs)[1]}: nothing can meet both")
        return self

    @property
    def conditions(self) -> tuple[Condition[Any], ...]:
        """The conditions that were given, in the order of their texts."""
        given = ((condition, getattr(self, _field(key))) for key, condition in registry().conditions.items())
        return tuple(condition(value) for condition, value in given if value is not None)

    @property
    def judged(self) -> tuple[Condition[Any], ...]:
        """Those of the conditions that are judged: without what a modifier takes in, or has nothing to take in."""
        given = self.conditions
        taken = [one for one in given if any(other.takes_in(one) for other in given)]
        return tuple(one for one in given if one not in taken and (not one.modifies or taken))

    @property
    def in_words(self) -> str:
        """`at least 0.45, positive`."""
        return ", ".join(one.describe(self.conditions) for one in self.judged)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is expected; of what a suite says, only once what cannot be judged was taken out."""
        return all(one.modifies for one in self.conditions)

    @property
    def only_relative(self) -> bool:
        """Whether nothing is expected but what needs a baseline."""
        return all(one.needs_baseline for one in self.conditions if not one.modifies)

    @property
    def ranks(self) -> bool:
        """Whether it is judged against the reading of all heads."""
        return any(one.ranks for one in self.conditions)

    @property
    def low_is_good(self) -> bool:
        """Whether the best readings are the lowest."""
        return any(one.low_is_good for one in self.conditions)

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The numbers between which the mean must lie, lower one first; None where there is none."""
        lows = [low for one in self.conditions if (low := one.limits[0]) is not None]
        highs = [high for one in self.conditions if (high := one.limits[1]) is not None]
        return max(lows, default=None), min(highs, default=None)

    def with_value(self, condition: Condition[Any], value: Any) -> Self:
        """The same expectation with another value for a condition; None takes it out."""
        return self.model_copy(update={_field(condition.key): value})

    def without_baseline(self) -> tuple[Self, tuple[str, ...]]:
        """What can be judged without a baseline, and what cannot."""
        lost = [one for one in self.conditions if one.needs_baseline]
        return self._without(lost), tuple(f"{one.describe()} (no --baseline was given)" for one in lost)

    def among(self, ranked: int) -> tuple[Self, tuple[str, ...]]:
        """What can fail where there are only so many heads to rank, and what cannot."""
        lost = [one for one in self.conditions if one.never_fails_among(ranked)]
        never = f"it can never fail: there are {ranked} to rank"
        return self._without(lost), tuple(f"{one.describe()} ({never})" for one in lost)

    def _without(self, lost: list[Condition[Any]]) -> Self:
        return self.model_copy(update={_field(one.key): None for one in lost})

    def problems(
        self, spec: Measure, task: Task | None = None, needed: int | str = "each"
    ) -> Iterator[tuple[tuple[str, ...], str]]:
        """What can never hold or never fail, whatever the model: (keys below `expect`, message) pairs.

        Args:
            task: what is asked, where it is known: of few prompts no share can be shown to be near 1 or 0.
            needed: how many heads must meet the expectation, `each`, or `mean`.
        """
        use = Use(spec, task, needed, self.conditions)
        for condition in self.conditions:
            for keys, message in condition.problems(use):
                yield (condition.key, *keys), message


def _field(key: str) -> str:
    return key.replace("-", "_")


def _either(keys: list[str]) -> str:
    return f"{', '.join(keys[:-1])} or {keys[-1]}"


if TYPE_CHECKING:

    class Expectation(_Expected):
        """What a reading must satisfy. Several together must all hold."""

else:
    Expectation = create_model(
        "Expectation",
        __base__=_Expected,
        __module__=__name__,
        __doc__=_Expected.__doc__,
        **{
            _field(key): (condition.value_type | None, Field(None, description=condition.description))
            for key, condition in registry().conditions.items()
        },
    )
