"""The result of the `masks` verb, from the masks that were learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from circuit_assertions.assertions.circuits import Circuit
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.masks import Mask
from circuit_assertions.results.masks import MaskFound, MasksResult, PenaltyTried
from circuit_assertions.results.values import CheckpointFacts, Figure
from circuit_assertions.tasks import Task

__all__ = ["masks_result"]


def masks_result(
    audit: Audit,
    checkpoint: Checkpoint,
    task: Task,
    masks: Sequence[Mask],
    circuit: Circuit | None = None,
    file: Path | None = None,
) -> MasksResult:
    """The result.

    Args:
        circuit: whose roles are compared with the masks, and its file.
    """
    return MasksResult(
        checkpoint=str(checkpoint),
        model=CheckpointFacts.of(checkpoint, audit.opened(checkpoint)),
        task=dict(audit.prompts(task, checkpoint).settings),
        unit=task.answer_metric.unit,
        circuit="" if file is None else str(file),
        masks=tuple(_mask(mask, circuit) for mask in masks),
    )


def _mask(mask: Mask, circuit: Circuit | None) -> MaskFound:
    heads = mask.chosen.heads
    roles = {} if circuit is None else circuit.roles
    return MaskFound(
        what=mask.what,
        penalty=mask.chosen.penalty,
        heads=tuple(map(str, heads)),
        carries=Figure.of(mask.carries),
        random=mask.random,
        everyone=Figure.of(mask.everyone),
        path=tuple(
            PenaltyTried(penalty=step.penalty, heads=tuple(map(str, step.heads)), carries=step.carries)
            for step in mask.path
        ),
        prompts=mask.prompts,
        roles={role: (len({*own} & {*heads}), len(own)) for role, own in roles.items()},
    )
