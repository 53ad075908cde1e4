"""The result of the `edges` verb: the strongest edges between components, approximately."""

from __future__ import annotations

from typing import Any, Literal

from circuit_assertions.results.base import Part, Result
from circuit_assertions.results.values import CheckpointFacts

__all__ = ["EdgeScored", "EdgesResult"]


class EdgeScored(Part):
    """One edge.

    Attributes:
        sender, receiver: in words: `embedding`, `key of L0H0, L0H1`.
        mostly_at: the labelled position with the largest part of the score.
        score: in the unit of the result; positive favours the right answer.
        share: of the sizes of the scores of all edges together.
    """

    sender: str
    receiver: str
    mostly_at: str
    score: float
    share: float


class EdgesResult(Result):
    """The edges of one checkpoint on one task.

    Attributes:
        called: the task's name, as a suite would write it.
        task: its settings.
        prompts: how many were read.
        steps: how many points gradients were averaged over; 1 is EAP.
        unit: of scores.
        edges_of_model: how many edges the model has.
        edges: the strongest, in order.
        to_confirm: what a suite says to measure exactly the strongest edge that path-effect measures, line by line.
    """

    kind: Literal["edges"] = "edges"
    approximate: Literal[True] = True
    checkpoint: str
    model: CheckpointFacts
    called: str
    task: dict[str, Any]
    token_hash: str
    balance: dict[str, int]
    prompts: int
    steps: int
    unit: str
    edges_of_model: int
    edges: tuple[EdgeScored, ...]
    to_confirm: tuple[str, ...]
