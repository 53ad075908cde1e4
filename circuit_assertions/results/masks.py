"""The result of the `masks` verb: which heads carry what."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from circuit_assertions.results.base import Part, Result
from circuit_assertions.results.values import CheckpointFacts, Figure

__all__ = ["MaskFound", "MasksResult", "PenaltyTried"]


class PenaltyTried(Part):
    """What one penalty led to, on the prompts that the penalty is chosen by."""

    penalty: float
    heads: tuple[str, ...]
    carries: float


class MaskFound(Part):
    """The heads that carry one thing.

    Attributes:
        what: what the counterfactual changes.
        heads: those of the chosen penalty.
        carries: the share of prompts whose answer moves with them; `random`: with as many random heads of each layer;
            `everyone`: with all heads.
        path: the penalties that were tried, the dearest first.
        prompts: how many taught the mask, chose the penalty, and were reported.
        roles: of a circuit file, how many of a role's heads are among these, and how many it has.
    """

    what: str
    penalty: float
    heads: tuple[str, ...]
    carries: Figure
    random: float
    everyone: Figure
    path: tuple[PenaltyTried, ...]
    prompts: tuple[int, int, int]
    roles: dict[str, tuple[int, int]] = Field(default_factory=dict)


class MasksResult(Result):
    """The masks of one checkpoint on one task.

    Attributes:
        task: its settings.
        unit: of the penalty: the task's answer metric.
        circuit: the circuit file whose roles are compared; empty where there is none.
    """

    kind: Literal["masks"] = "masks"
    checkpoint: str
    model: CheckpointFacts
    task: dict[str, Any]
    unit: str
    circuit: str = ""
    masks: tuple[MaskFound, ...]
