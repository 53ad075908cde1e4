"""Readings that no verdict of a run needs, taken so that a later run can be compared with its record."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.planned import NotApplicable, PlannedAssertion
from circuit_assertions.assertions.readings_needed import Requesting
from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.measures import MEASURES
from circuit_assertions.unexpected import tell_unexpected

__all__ = ["take_further", "without_consequences"]


@contextlib.contextmanager
def without_consequences() -> Iterator[None]:
    """Around readings for a record: whatever fails there, the assertion has its verdict."""
    with contextlib.suppress(CircuitAssertionsError), tell_unexpected("a further reading for the record failed"):
        yield


def take_further(runner: SuiteRunner, asked: PlannedAssertion, prompts: int | None) -> None:
    """Read what an assertion would read of this checkpoint if it were the baseline of another one.

    Args:
        prompts: how many are read at least, where their number grows; 0 for the whole budget, None for as many as
            are asked at first.

    Raises:
        CircuitAssertionsError: if the checkpoint does not allow it.
    """
    if MEASURES[asked.assertion.measure].compares:
        return
    requests = Requesting(runner.audit, runner.binder).requests(asked)
    if not isinstance(requests, NotApplicable):
        looks = asked.looks
        enough = [look for look in looks if look.task.count >= (prompts or 0)]
        chosen = looks[-1] if prompts == 0 or not enough else enough[0]
        runner.audit.read(replace(requests[0], task=chosen.task), asked.checkpoint)
