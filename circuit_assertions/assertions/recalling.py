"""The snapshot of an assertion, in the place of the condition that asks for it; without snapshots it is left out."""

from __future__ import annotations

from collections.abc import Callable

from circuit_assertions.assertions.conditions.snapshot import Snapshot
from circuit_assertions.assertions.expectation import Expectation
from circuit_assertions.assertions.kept import Allowed, Compared
from circuit_assertions.assertions.planned import PlannedAssertion
from circuit_assertions.measures import Reading
from circuit_assertions.tasks import Task

__all__ = ["Recall", "with_snapshot"]

# Compares an assertion's reading with its snapshot, or writes that.
Recall = Callable[[PlannedAssertion, Reading, Allowed | str], Compared]


def with_snapshot(
    asked: PlannedAssertion, expect: Expectation, recall: Recall | None, take: Callable[[Task], Reading]
) -> tuple[Expectation, tuple[str, ...]]:
    """The expectation with its snapshot compared, and what had to be left out of it.

    The prompts are those of the first look, whichever look is judged: a later look asks others besides, and depends on
    what else is expected.

    Args:
        recall: None where no snapshots are kept.
        take: takes the reading on the prompts of a look.
    """
    condition = next((one for one in expect.conditions if isinstance(one, Snapshot)), None)
    if condition is None:
        return expect, ()
    if recall is None:
        left_out = f"{condition.describe()} (snapshots are kept and compared by pytest, for assertions of suites)"
        return expect.with_value(condition, None), (left_out,)
    found = recall(asked, take(asked.looks[0].task), condition.within)
    return expect.with_value(condition, found), ()
