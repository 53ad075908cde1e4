"""A single prompt of a task, chosen from all that its kind can make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from circuit_assertions.tasks.kind import Choice, TaskKind
from circuit_assertions.tasks.metrics import AnswerMetric
from circuit_assertions.tasks.prompts import PromptSet

__all__ = ["Choice", "ChosenPrompt"]


class ChosenPrompt(TaskKind):
    """One prompt of a task. It has no name, so that no suite can ask for it.

    Attributes:
        of: the task.
        chosen: what was chosen for each of its choices, as (name, option or options) pairs.
    """

    of: TaskKind
    chosen: tuple[tuple[str, Any], ...]

    @classmethod
    def from_task(cls, task: TaskKind, chosen: Mapping[str, Any]) -> ChosenPrompt:
        """The prompt for these choices."""
        return cls(kind=task.kind, of=task, chosen=tuple(sorted(chosen.items())))

    @property
    def offers(self) -> frozenset[str]:
        """What measures can ask of it."""
        return self.of.offers

    @property
    def count(self) -> int:
        """One."""
        return 1

    @property
    def answer_metric(self) -> AnswerMetric:
        """By what right and wrong answers are compared."""
        return self.of.answer_metric

    def labels(self) -> frozenset[str]:
        """The positions that it names."""
        return self.of.labels()

    def make(self, tokenizer: Any) -> PromptSet:
        """The prompt for one tokenizer.

        Raises:
            TaskError: if the tokenizer does not allow it.
        """
        return self.of.one(tokenizer, dict(self.chosen))
