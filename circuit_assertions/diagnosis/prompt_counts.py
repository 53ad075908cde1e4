"""How many of a task's prompts the parts of a diagnosis read."""

from __future__ import annotations

from circuit_assertions.diagnosis.origin import Origin
from circuit_assertions.diagnosis.recovery import Recovery
from circuit_assertions.tasks import Task

__all__ = ["PARTS", "fewer", "prompts_read"]

PARTS = ("task", "behaviour", "origin-search", "origin-choice", "origin-report", "expression", "rediscovery")


def fewer(task: Task, most: int | None) -> Task:
    """The task, with at most so many prompts; as it is for None, and if their number is fixed."""
    if most is None or task.count <= most:
        return task
    return task.with_count(most) or task


def prompts_read(
    task: Task, read: int, origin: Origin, transplanted: int | None, recovery: Recovery | None
) -> dict[str, int]:
    """How many prompts each part read, by its name in `PARTS`; parts that were not needed are left out.

    Args:
        read: those that behaviour and roles were read by.
        transplanted: those that outputs were transplanted on; None where none were.
    """
    chose, reported = len(origin.choosing) or None, len(origin.reporting) or None
    numbers = (
        task.count,
        read,
        None if chose is None or reported is None else read - chose - reported,
        chose,
        reported,
        transplanted,
        None if recovery is None or recovery.circuits is None else recovery.circuits.prompts,
    )
    return {part: number for part, number in zip(PARTS, numbers, strict=True) if number is not None}
