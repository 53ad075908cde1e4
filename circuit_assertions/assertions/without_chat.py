"""The same assertion on the same prompts without the chat template: its verdict is reported where it differs.

The verdict itself stays as it is. So it costs a second reading, taken only at the look at which the verdict was made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.deciding import Readings
from circuit_assertions.assertions.planned import NotApplicable, PlannedAssertion
from circuit_assertions.assertions.verdicts import Judgement
from circuit_assertions.request import Request
from circuit_assertions.tasks import Task, TextTask

__all__ = ["Taking", "differing_without_chat", "requests_without_chat"]


Taking = Callable[[Task], Readings | NotApplicable]  # what an assertion is judged by, on the prompts of a task


def differing_without_chat(
    asked: PlannedAssertion, judged: Judgement, readings: Taking
) -> Judgement | CircuitAssertionsError | None:
    """The judgement without the conversation, where its verdict is another; the error, where there is none.

    Args:
        asked: what was judged, at this look.
        readings: takes the readings of a task, for the same expectation.

    Returns:
        None where the verdicts agree, there is no conversation, or it is not to be compared.
    """
    task = _without(asked.task)
    if task is None:
        return None
    try:
        read = readings(task)
        plain = None if isinstance(read, NotApplicable) else read.judged()
    except CircuitAssertionsError as error:
        return error
    return None if plain is None or plain.verdict is judged.verdict else plain


def requests_without_chat(asked: PlannedAssertion, requests: Sequence[Request]) -> list[Request]:
    """The readings that the comparison of an assertion needs; none where there is no comparison."""
    task = _without(asked.task)
    return [] if task is None else [replace(request, task=task) for request in requests]


def _without(task: Task) -> Task | None:
    if isinstance(task, TextTask) and task.chat is not None and task.chat.compare:
        return task.without_chat()
    return None
