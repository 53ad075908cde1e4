"""Whether a model has room for the prompts of a task."""

from __future__ import annotations

from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.kind import TaskKind
from circuit_assertions.tasks.prompts import PromptSet

__all__ = ["check_room"]


def check_room(prompts: PromptSet, task: TaskKind, called: object, positions: int, vocabulary: int) -> None:
    """Check that a model can read some prompts.

    Args:
        called: the model, as messages name it.
        positions, vocabulary: how many tokens it reads, and knows.

    Raises:
        TaskError: if it cannot.
    """
    if prompts.longest > positions:
        raise TaskError(
            f"the prompts have up to {prompts.longest} tokens and {called} reads {positions}: "
            f"use shorter ones ({task.way_shorter()})"
        )
    highest = max(max(prompt.tokens) for prompt in prompts.prompts)
    if highest >= vocabulary:
        raise TaskError(
            f"the tokenizer gives token {highest} and {called} knows {vocabulary}: "
            f"the tokenizer belongs to another model; give the right one with --tokenizer=path/"
        )
