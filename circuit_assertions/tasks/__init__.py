"""Tasks: seeded sources of prompts with labelled positions, answers, and a counterfactual each.

Nothing here imports torch; what a suite may say about a task is validated by the pydantic models, and prompts are made
once a tokenizer is there.
"""

from __future__ import annotations

from circuit_assertions.tasks.answers import Answers
from circuit_assertions.tasks.chat import Chat
from circuit_assertions.tasks.chosen import Choice, ChosenPrompt
from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.given import GivenPromptsTask
from circuit_assertions.tasks.ioi import IoiTask
from circuit_assertions.tasks.kind import Option, SeededTask, TaskKind
from circuit_assertions.tasks.metrics import LOGIT_DIFFERENCE, METRICS, AnswerMetric
from circuit_assertions.tasks.prompts import END, TO_PATCH, Prompt, PromptSet
from circuit_assertions.tasks.registry import Task, kinds, known_circuits, task_offering
from circuit_assertions.tasks.repeated import RepeatedTokensTask
from circuit_assertions.tasks.retokenize import check_same_tokens
from circuit_assertions.tasks.text import TextTask, check_same_conversation

__all__ = [
    "END",
    "LOGIT_DIFFERENCE",
    "METRICS",
    "TO_PATCH",
    "AnswerMetric",
    "Answers",
    "Chat",
    "Choice",
    "ChosenPrompt",
    "GivenPromptsTask",
    "IoiTask",
    "Option",
    "Prompt",
    "PromptSet",
    "RepeatedTokensTask",
    "SeededTask",
    "Task",
    "TaskError",
    "TaskKind",
    "TextTask",
    "check_same_conversation",
    "check_same_tokens",
    "kinds",
    "known_circuits",
    "task_offering",
]
