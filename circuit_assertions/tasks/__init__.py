"""Tasks: seeded sources of prompts with labelled positions, answers, and a counterfactual each.

Nothing here imports torch; what a suite may say about a task is validated by the pydantic models, and prompts are made
once a tokenizer is there.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.given import GivenPromptsTask
from circuit_assertions.tasks.ioi import IoiTask
from circuit_assertions.tasks.prompts import END, TO_PATCH, Prompt, PromptSet
from circuit_assertions.tasks.repeated import RepeatedTokensTask
from circuit_assertions.tasks.retokenize import check_same_tokens

__all__ = [
    "END",
    "KNOWN_CIRCUITS",
    "TO_PATCH",
    "GivenPromptsTask",
    "IoiTask",
    "Prompt",
    "PromptSet",
    "RepeatedTokensTask",
    "Task",
    "TaskError",
    "check_same_tokens",
]

KNOWN_CIRCUITS = (IoiTask.circuit, RepeatedTokensTask.circuit)  # by name, whoever has found them

Task = Annotated[IoiTask | RepeatedTokensTask | GivenPromptsTask, Field(discriminator="kind")]
