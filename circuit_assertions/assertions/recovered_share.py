"""Recovery, assertion by assertion: how much of what a corrupted checkpoint lost of a reading is recovered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.verdicts import Judgement
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, CheckpointError
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.measures.figures import Array, Figure, share_of
from circuit_assertions.measures.intervals import Level
from circuit_assertions.ordering import ranked
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.tasks import TaskError

__all__ = ["Recovering", "recovered"]


@dataclass
class Recovering:
    """Holds judged readings between a corrupted checkpoint and the baseline.

    Attributes:
        unfit: why the corrupted checkpoint cannot be compared with the baseline; empty until that was tried. Without
            it there are no shares; the verdicts stay.
    """

    audit: Audit
    baseline: Checkpoint
    corrupted: Checkpoint
    unfit: str = field(default="", init=False)

    def share(
        self, judged: Judgement, needed: int | str, take: Callable[[Checkpoint], Reading | None]
    ) -> Figure | None:
        """The recovered share of what was lost of a judged reading.

        Args:
            needed: how many heads must satisfy the expectation, `each`, or `mean`.
            take: takes the same reading of another checkpoint; None where that has nothing to say.

        Returns:
            None where nothing was lost, or the corrupted checkpoint does not allow the reading.
        """
        if self.unfit or "corrupted" in MEASURES[judged.reading.measure].compares:
            return None
        try:
            self._check_fit()
            then = take(self.baseline)
            worst = None if then is None else take(self.corrupted)
        except (CheckpointError, TaskError, _UnfitError) as error:
            self.unfit = str(error)
            return None
        except CircuitAssertionsError:
            return None
        if then is None or worst is None:
            return None
        return recovered(judged.reading, then, worst, needed, judged.low_is_good, self.audit.policy)

    def _check_fit(self) -> None:
        before, worst = (self.audit.opened(one).shape.size for one in (self.baseline, self.corrupted))
        if before != worst:
            raise _UnfitError(f"it has {worst}, and the baseline {before}")


class _UnfitError(CircuitAssertionsError):
    """The corrupted checkpoint has another shape."""


def recovered(
    model: Reading,
    baseline: Reading,
    corrupted: Reading,
    needed: int | str,
    low_is_good: bool = False,
    policy: Policy = DEFAULT,
) -> Figure | None:
    """(model - corrupted) / (baseline - corrupted), as a ratio of means, paired by prompt.

    Heads that must all hold count together, each in the direction that it has on the baseline. Where some of them are
    enough, those count that are best on the baseline.

    Args:
        needed: how many heads must satisfy the expectation, `each`, or `mean`.
        low_is_good: whether the best heads are those that read least.

    Returns:
        None where the corrupted checkpoint has not clearly lost `least_lost` of the baseline's reading.
    """
    chosen = _chosen(baseline, needed, low_is_good)
    good = _good_direction(baseline, chosen, low_is_good)
    now, then, worst = (_together(reading, chosen, good) for reading in (model, baseline, corrupted))
    lost = then - worst
    level = Level.of_figures(policy)
    least = max(policy.least_lost * abs(float(then.mean())), baseline.rounding)
    if Figure.of_values(lost, level).interval.low <= 0 or lost.mean() < least:
        return None
    return Figure.of_values(share_of(now - worst, lost), level)


def _chosen(baseline: Reading, needed: int | str, low_is_good: bool) -> Sequence[int]:
    """The columns that count."""
    columns = range(len(baseline.components))
    if not isinstance(needed, int):
        return columns
    means = baseline.values.mean(axis=0) if baseline.components else np.empty(0)
    return ranked(columns, lambda column: -means[column] if low_is_good else means[column])[:needed]


def _good_direction(baseline: Reading, chosen: Sequence[int], low_is_good: bool) -> Array:
    """Which way each column was good on the baseline, 1 or -1 [columns]; a circuit's heads may pull both ways."""
    means = baseline.values.mean(axis=0)
    means = means[list(chosen)] if baseline.components else np.atleast_1d(means)
    direction: Array = np.where((means < 0) | low_is_good, -1.0, 1.0)
    return direction


def _together(reading: Reading, chosen: Sequence[int], good: Array) -> Array:
    """One value a prompt [prompts]."""
    columns = reading.values[:, list(chosen)] if reading.components else reading.values[:, None]
    values: Array = (columns * good).mean(axis=1)
    return values
