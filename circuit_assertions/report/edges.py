"""The `edges` verb: the strongest edges of a model on a task, approximately, and how to confirm one exactly."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening
from circuit_assertions.components import Mlp, Residual
from circuit_assertions.engine import LimitError, MeasuringError
from circuit_assertions.engine.edges import EdgeReceiver, EdgeSender, Input
from circuit_assertions.measures import MEASURES
from circuit_assertions.measures.kinds.edges import Edge, score_edges
from circuit_assertions.measures.validating import validate
from circuit_assertions.printable import printable
from circuit_assertions.tasks import LOGIT_DIFFERENCE, Task

__all__ = ["EdgeReport", "report_edges"]

_WORDS = {"q": "query", "k": "key", "v": "value"}


@dataclass(frozen=True)
class EdgeReport:
    """The edges of one checkpoint on one task, the strongest first.

    Attributes:
        task: the task's name, as a suite would write it.
        settings: what the scores were taken under.
    """

    checkpoint: str
    task: str
    steps: int
    prompts: int
    settings: dict[str, Any]
    edges: list[Edge]
    unit: str = LOGIT_DIFFERENCE.unit

    def lines(self, most: int) -> list[str]:
        """The strongest edges as a table."""
        method = "EAP" if self.steps == 1 else f"EAP-IG, {self.steps} steps"
        table = [("sender", "receiver", "mostly at", "score", "share")]
        for edge in self.edges[:most]:
            numbers = (f"{edge.score:+.3f}", f"{100 * edge.share:.1f} %")
            table.append((_name(edge.sender), _name(edge.receiver), edge.at, *numbers))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        shown = sum(edge.share for edge in self.edges[:most])
        lines = [
            f"{self.checkpoint} on {self.task}: {self.prompts} prompts, scores in {self.unit}",
            f"approximate ({method}), for triage only; to confirm an edge, put this into a suite:",
            *(f"  {line}" for line in self.assertion()),
            "",
            *("  ".join(map(str.ljust, row[:3], widths)) + _right(row[3:], widths[3:]) for row in table),
            "",
            f"{len(self.edges[:most])} of {len(self.edges)} edges, {100 * shown:.1f} % of the size of all of them",
        ]
        return list(map(printable, lines))

    def as_json(self, most: int) -> dict[str, Any]:
        """The same as JSON."""
        listed = [
            {
                "sender": _name(edge.sender),
                "receiver": _name(edge.receiver),
                "mostly_at": edge.at,
                "score": edge.score,
                "share": edge.share,
            }
            for edge in self.edges[:most]
        ]
        return {
            "approximate": True,
            "checkpoint": self.checkpoint,
            **self.settings,
            "edges_of_model": len(self.edges),
            "edges": listed,
        }

    def assertion(self) -> list[str]:
        """What a suite says of the strongest edge that path-effect measures: not of the embedding, not into MLPs."""
        edge = next(
            edge for edge in self.edges if not isinstance(edge.sender, Residual) and not isinstance(edge.receiver, Mlp)
        )
        receiver = _name(edge.receiver)
        if isinstance(edge.receiver, Input):
            heads = ", ".join(map(str, edge.receiver.heads))
            receiver = f"{{{_WORDS[edge.receiver.which]}: [{heads}], at: {edge.at}}}"
        name = re.sub(r"\W+", "-", f"{edge.sender} to {_name(edge.receiver)}")
        sign = "positive" if edge.score > 0 else "negative"
        return [
            f"- {{id: {name}, task: {self.task}, measure: path-effect, components: [{edge.sender}],",
            f"   receiver: {receiver}, semantics: direct, expect: {{sign: {sign}}}}}",
        ]


def report_edges(
    checkpoint: Checkpoint,
    opening: Opening,
    named: str,
    task: Task,
    steps: int,
    progress: Callable[[str, int, int], None],
) -> EdgeReport:
    """Open a checkpoint and score its edges on a task.

    Args:
        named: the task's name.

    Raises:
        CheckpointError, DeviceError, TaskError, MeasuringError: as an audit of this checkpoint would.
    """
    spec = MEASURES["edge-score"]
    for _, problem in validate(spec, task, {"steps": steps}, called=repr(named)):
        raise MeasuringError(problem)
    audit = Audit(opening)
    model = audit.model(checkpoint)
    for fact in spec.relies_on:
        if fact in model.limits:
            raise LimitError(spec.name, checkpoint, model.limits[fact])
    prompts = audit.prompts(task, checkpoint)
    edges = score_edges(model, prompts, sorted(task.labels()), steps, lambda done: progress(named, done, len(prompts)))
    settings = {
        "steps": steps,
        "task": dict(prompts.settings),
        "token_hash": prompts.token_hash,
        "balance": prompts.balance,
        "model": model.identity(),
    }
    return EdgeReport(str(checkpoint), named, steps, len(prompts), settings, edges, spec.unit_on(task))


def _name(component: EdgeSender | EdgeReceiver) -> str:
    if isinstance(component, Residual):
        return "embedding"
    if isinstance(component, Input):
        return f"{_WORDS[component.which]} of {', '.join(map(str, component.heads))}"
    return str(component)


def _right(cells: tuple[str, ...], widths: list[int]) -> str:
    return "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
