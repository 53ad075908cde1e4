"""Tasks: seeded sources of prompts with labelled positions, answers, and a counterfactual each.

Nothing here imports torch; what a suite may say about a task is validated by the pydantic models, and prompts are made
once a tokenizer is there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import Field

from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.given import GivenPromptsTask
from circuit_assertions.tasks.ioi import IoiTask
from circuit_assertions.tasks.prompts import END, TO_PATCH, Prompt, PromptSet
from circuit_assertions.tasks.repeated import RepeatedTokensTask
from circuit_assertions.tasks.retokenize import check_same_tokens

__all__ = [
    "END",
    "TO_PATCH",
    "GivenPromptsTask",
    "IoiTask",
    "Prompt",
    "PromptSet",
    "RepeatedTokensTask",
    "Task",
    "TaskError",
    "check_same_tokens",
    "kinds",
]

Task = Annotated[IoiTask | RepeatedTokensTask | GivenPromptsTask, Field(discriminator="kind")]


@functools.cache
def kinds() -> Mapping[str, type[IoiTask | RepeatedTokensTask | GivenPromptsTask]]:
    """The kinds of tasks by name, the default one first."""
    listed = get_args(get_args(Task)[0])
    return {get_args(kind.model_fields["kind"].annotation)[0]: kind for kind in listed}
