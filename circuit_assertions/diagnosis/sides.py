"""The sides of a diagnosis: the checkpoints that are compared on the same prompts, and whether they can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.errors import DiagnosisError
from circuit_assertions.diagnosis.view import View, check_enough
from circuit_assertions.tasks import TO_PATCH, PromptSet, Task

__all__ = ["Sides", "check_fit"]


@dataclass(frozen=True)
class Sides:
    """The same prompts on the model, on the baseline, and on the corrupted checkpoint where there is one.

    Attributes:
        worst: None also where a corrupted checkpoint was left out.
        not_told: why it was left out.
    """

    now: View
    then: View
    worst: View | None
    not_told: str = ""

    def settings(self, prompts: PromptSet) -> dict[str, Any]:
        """What these prompts and checkpoints were, and how they are compared."""
        sides = {"model": self.now, "baseline": self.then, "corrupted": self.worst}
        known = {side: view.audit.known(view.checkpoint) for side, view in sides.items() if view is not None}
        return {
            "task": dict(prompts.settings),
            "token_hash": prompts.token_hash,
            "semantics": "through-mlps",
            "ablation": "mean",
            **{side: dict(one.identity) for side, one in known.items()},
        }

    @classmethod
    def of(
        cls,
        audit: Audit,
        model: Checkpoint,
        baseline: Checkpoint,
        corrupted: Checkpoint | None,
        task: Task,
        insist: bool,
    ) -> Sides:
        """The sides of a comparison that makes sense."""
        check_fit(audit, model, baseline)
        if not task.offers >= TO_PATCH:
            raise DiagnosisError("a diagnosis needs a task with right and wrong answers and counterfactual prompts")
        check_enough(audit.prompts(task, baseline), "to diagnose by", audit.policy)
        _check_prompts(audit, task, baseline, model)
        now, then = View(audit, model, task), View(audit, baseline, task)
        if corrupted is None:
            return cls(now, then, None)
        try:
            return cls(now, then, _worst(then, corrupted))
        except CircuitAssertionsError as error:
            if insist:
                raise
            return cls(now, then, None, str(error))


def _worst(then: View, corrupted: Checkpoint) -> View:
    """The corrupted checkpoint's side, once it is known to be readable and to fit the baseline's."""
    worst = View(then.audit, corrupted, then.task)
    check_fit(then.audit, then.checkpoint, corrupted)
    _check_prompts(then.audit, then.task, then.checkpoint, corrupted)
    worst.behaviour()
    return worst


def check_fit(audit: Audit, *checkpoints: Checkpoint) -> None:
    """Refuse checkpoints that cannot be compared, before any work.

    Raises:
        DiagnosisError: if their architectures or shapes differ.
    """
    recorded = audit.recorded is not None and audit.recorded.checkpoint in checkpoints
    shapes = {one: str(audit.known(one).shape) if recorded else _shape(audit, one) for one in checkpoints}
    first = checkpoints[0]
    for other, shape in shapes.items():
        if shape != shapes[first]:
            raise DiagnosisError(
                f"{first} is a {shapes[first]}, {other} a {shape}: a diagnosis compares checkpoints of one shape, a "
                f"base model and its fine-tunes"
            )


def _check_prompts(audit: Audit, task: Task, baseline: Checkpoint, other: Checkpoint) -> None:
    """Refuse a checkpoint that reads other tokens."""
    if audit.prompts(task, other).token_hash != audit.prompts(task, baseline).token_hash:
        raise DiagnosisError(
            f"the tokenizer of {other} reads the prompts otherwise than that of {baseline}: a diagnosis compares "
            f"checkpoints that read the same tokens; give both the right one with --tokenizer=path/"
        )


def _shape(audit: Audit, checkpoint: Checkpoint) -> str:
    opened = audit.opened(checkpoint)
    return f"{opened.shape}, {opened.vocabulary} tokens, {opened.weights} weights"
