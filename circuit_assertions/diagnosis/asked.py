"""The prompts by which a diagnosis compares behaviour and roles."""

from __future__ import annotations

from circuit_assertions.diagnosis.prompt_counts import fewer
from circuit_assertions.policy import Policy
from circuit_assertions.tasks import Task

__all__ = ["compared_task"]


def compared_task(task: Task, policy: Policy, every_prompt: bool = False) -> tuple[Task, Task]:
    """The task as a diagnosis asks it: with as many prompts as a circuit is found by, and with those it compares by.

    Args:
        every_prompt: whether all prompts of the task are compared by.
    """
    task = task.look_with(policy.discovered_prompts)  # a later part may need more than a suite begins with
    return task, task if every_prompt else fewer(task, policy.compared_prompts)
