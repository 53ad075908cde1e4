"""Edge scores: EAP and EAP-IG, for finding the edges that are worth an exact measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from circuit_assertions.engine import MeasuringError
from circuit_assertions.measures.declaring import CAUSAL, Asked, measure
from circuit_assertions.measures.operands import Count, Operands, Receiving
from circuit_assertions.measures.receivers import Receiver
from circuit_assertions.tasks import TO_PATCH, PromptSet

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Model, Pass
    from circuit_assertions.engine.edges import EdgeGraph, EdgeReceiver, EdgeSender

__all__ = ["Edge", "edge_score", "score_edges"]

_LEVEL = 5  # digits to which scores are told apart, so that the order of sums decides no rank


@dataclass(frozen=True)
class Edge:
    """One edge with its mean score over prompts, in logits; positive pushes towards the right answer.

    Attributes:
        share: the size of the score, as a share of the sizes of all edges together.
        at: the labelled position that carries most of it.
    """

    sender: EdgeSender
    receiver: EdgeReceiver
    score: float
    share: float
    at: str


class Scored(Operands):
    """Where an edge ends, and how many steps its score is averaged over."""

    receiver: Receiving = Field("logits", description="where a path ends; default logits")
    steps: Count = Field(5, description="points to average gradients over; 1 is EAP")


@measure(
    "edge-score",
    kind="head",
    operands=Scored,
    unit="logits",
    components=("head", "mlp"),
    help="an estimate of how much of the logit difference the edge from the sender to the receiver carries, to "
    "first order in the sender's change from clean to counterfactual: EAP in 1 step, EAP-IG in more. An "
    "approximation, for triage only: assert path-effect with semantics: direct",
    source="Syed et al. 2023, arXiv 2310.10348 (EAP); Hanna et al. 2024, arXiv 2403.17806 (EAP-IG-inputs)",
    needs=TO_PATCH,
    relies_on=(*CAUSAL, "patterns", "inputs", "writes", "residual"),
    wants=("patching",),
    approximate=True,
)
def edge_score(taken: Pass, asked: Asked[Scored]) -> Tensor:
    """Scores of the edges from heads and MLPs to a receiver [prompts, senders]: the logits, or a `Receiver`."""
    from circuit_assertions.engine.attribution import Attribution

    assert taken.patching is not None
    attribution, receiver = Attribution.of(taken.patching, asked.operands.steps), asked.operands.receiver
    rows = [attribution.graph.senders.index(sender) for sender in asked.components]
    if not isinstance(receiver, Receiver):
        return attribution.scores(["logits"])[0, :, rows, 0]
    taken.patching.check_receivers(receiver.heads)
    inputs = attribution.graph.inputs(receiver.which, receiver.heads)
    return attribution.scores(inputs, [receiver.at])[1, :, rows].sum(dim=-1)


def score_edges(
    model: Model, prompts: PromptSet, labels: Sequence[str], steps: int, progress: Callable[[int], None]
) -> list[Edge]:
    """Every edge of the model, scored on a task, the strongest first.

    Args:
        labels: the positions to look for an edge at.
        progress: told how many prompts are done.

    Raises:
        MeasuringError: if the model's blocks are not recognised, or a score is NaN or infinite.
    """
    from circuit_assertions.engine import Wanted, run_passes
    from circuit_assertions.engine.attribution import Attribution

    total: NDArray[np.float64] | None = None
    done = 0
    progress(done)
    for taken in run_passes(model, prompts, Wanted(patching=True)):
        assert taken.patching is not None
        attribution = Attribution.of(taken.patching, steps)
        graph = attribution.graph
        sums = attribution.scores(graph.receivers, labels).cpu().double().sum(dim=1).numpy()
        total = sums if total is None else total + sums  # [1 + labels, senders, receivers]
        done += len(taken.indices)
        progress(done)
    assert total is not None
    if not np.isfinite(total).all():
        raise MeasuringError(f"edge scores of {model.source.checkpoint} are NaN or infinite: the model is damaged")
    return _ranked(graph, total / len(prompts), labels)


def _ranked(graph: EdgeGraph, scores: NDArray[np.float64], labels: Sequence[str]) -> list[Edge]:
    """Edges by the size of their scores [1 + labels, senders, receivers]."""
    sizes = np.abs(scores)
    whole = sizes[0].sum() or 1.0
    found = []
    for index in np.argsort(-_level(sizes[0]), axis=None, kind="stable"):
        sender, receiver = divmod(int(index), len(graph.receivers))
        if sender < graph.below(graph.receivers[receiver]):
            score, at = float(scores[0, sender, receiver]), labels[int(_level(sizes[1:, sender, receiver]).argmax())]
            share = float(sizes[0, sender, receiver] / whole)
            found.append(Edge(graph.senders[sender], graph.receivers[receiver], score, share, at))
    return found


def _level(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sizes in units of the largest, without the digits that rounding decides."""
    level: NDArray[np.float64] = np.round(sizes / (float(sizes.max()) or 1.0), _LEVEL)
    return level
