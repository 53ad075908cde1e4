"""The edges of a checkpoint on a task, scored to first order: for finding what is worth an exact measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.engine import LimitError, MeasuringError, Model
from circuit_assertions.measures import MEASURES
from circuit_assertions.measures.kinds.edges import Edge, score_edges
from circuit_assertions.measures.validating import validate
from circuit_assertions.tasks import PromptSet, Task

__all__ = ["FoundEdges", "find_edges"]


@dataclass(frozen=True)
class FoundEdges:
    """The edges of one checkpoint on one task, the strongest first.

    Attributes:
        called: the task's name, as a suite would write it.
        steps: how many points gradients were averaged over; 1 is EAP.
        unit: of scores.
    """

    checkpoint: Checkpoint
    model: Model
    called: str
    prompts: PromptSet
    steps: int
    edges: tuple[Edge, ...]
    unit: str


def find_edges(
    audit: Audit,
    checkpoint: Checkpoint,
    task: Task,
    *,
    called: str = "",
    steps: int = 5,
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> FoundEdges:
    """Score the edges of a checkpoint on a task.

    Args:
        called: the task's name.
        tell: what is being read, and how far it is.

    Raises:
        CheckpointError, DeviceError, TaskError, MeasuringError: as an audit of this checkpoint would.
    """
    called, spec = called or task.kind, MEASURES["edge-score"]
    for _, problem in validate(spec, task, {"steps": steps}, called=repr(called)):
        raise MeasuringError(problem)
    model = audit.model(checkpoint)
    for fact in spec.relies_on:
        if fact in model.limits:
            raise LimitError(spec.name, checkpoint, model.limits[fact])
    prompts = audit.prompts(task, checkpoint)
    edges = score_edges(model, prompts, sorted(task.labels()), steps, lambda done: tell(called, done, len(prompts)))
    return FoundEdges(checkpoint, model, called, prompts, steps, tuple(edges), spec.unit_on(task))
