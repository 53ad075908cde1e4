"""How well edge scores predict exact path effects: `python -m benchmarks.triage [--model path/] [--prompts N]`.

Every edge from a head or an MLP to the logits, and to the query, key or value of every head at the positions where the
IOI circuit reads them, is scored by EAP and EAP-IG and measured exactly (path patching, semantics direct).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.components import Residual
from circuit_assertions.engine import Wanted, run_passes
from circuit_assertions.engine.arithmetic import Projection
from circuit_assertions.engine.attribution import Attribution
from circuit_assertions.engine.patching import Patching
from circuit_assertions.tasks import IoiTask

HEALTHY = Path(__file__).parents[1] / "fixtures" / "checkpoints" / "healthy"
STEPS = (1, 5, 20)
PLACES: tuple[tuple[Projection, str], ...] = (
    ("q", "end"),
    ("k", "indirect-object"),
    ("k", "subject-1"),
    ("v", "indirect-object"),
    ("v", "subject-2"),
)
WORDS = {"q": "queries", "k": "keys", "v": "values"}
_TOP = 20

Array = NDArray[np.float64]
Kind = tuple[str, str]


def measure(model: Path, prompts: int) -> tuple[dict[Kind, Array], dict[int, dict[Kind, Array]]]:
    """Mean exact effects and mean scores by steps, each by kind of receiver; one number an edge, in the same order."""
    audit, checkpoint = Audit(Opening(device="cpu")), find_checkpoints(str(model))[0]
    task = IoiTask.model_validate({"kind": "ioi", "prompts": prompts})
    exact: dict[Kind, Array] = {}
    scores: dict[int, dict[Kind, Array]] = {steps: {} for steps in STEPS}
    for taken in run_passes(audit.model(checkpoint), audit.prompts(task, checkpoint), Wanted(patching=True)):
        assert isinstance(taken.patching, Patching)
        for kind, effects in exact_effects(taken.patching).items():
            exact[kind] = exact.get(kind, 0.0) + effects / prompts
        for steps in STEPS:
            for kind, found in edge_scores(taken.patching, steps).items():
                scores[steps][kind] = scores[steps].get(kind, 0.0) + found / prompts
    return exact, scores


def exact_effects(patching: Patching) -> dict[Kind, Array]:
    """Exact direct path effects, summed over prompts."""
    graph = Attribution.of(patching, 1).graph
    senders = [sender for sender in graph.senders if not isinstance(sender, Residual)]
    found: dict[Kind, Array] = {("logits", "end"): _sums(patching.to_logits(senders, "direct"))}
    for which, at in PLACES:
        parts = []
        for receiver in graph.inputs(which, list(patching.model.layout.all_heads())):
            below = senders[: graph.below(receiver) - 1]  # without the embedding
            if below:
                parts.append(_sums(patching.to_inputs(below, which, receiver.heads, at, "direct")))
        found[which, at] = np.concatenate(parts)
    return found


def edge_scores(patching: Patching, steps: int) -> dict[Kind, Array]:
    """Scores of the same edges, summed over prompts."""
    attribution = Attribution.of(patching, steps)
    graph, labels = attribution.graph, sorted({at for _, at in PLACES})
    every = attribution.scores(graph.receivers, labels).sum(dim=1)  # [1 + labels, senders, receivers]
    found: dict[Kind, Array] = {("logits", "end"): every[0, 1:, -1].double().numpy()}
    for which, at in PLACES:
        inputs = graph.inputs(which, list(patching.model.layout.all_heads()))
        column = every[1 + labels.index(at)][:, [graph.receivers.index(receiver) for receiver in inputs]]
        parts = [column[1 : graph.below(receiver), index] for index, receiver in enumerate(inputs)]
        found[which, at] = torch.cat(parts).double().numpy()
    return found


def lines(exact: dict[Kind, Array], scores: dict[int, dict[Kind, Array]]) -> list[str]:
    """A Markdown table: correlation, rank correlation, and how many of the strongest edges are among the strongest."""
    heading = ["receivers", "edges", *(f"EAP-IG, {steps} steps" if steps > 1 else "EAP" for steps in STEPS)]
    rows = [heading, ["---"] * len(heading)]
    kinds = [(f"{WORDS.get(kind[0], kind[0])} at {kind[1]}", [kind]) for kind in exact]
    for name, some in [*kinds, ("all of these", list(exact))]:
        true = np.concatenate([exact[kind] for kind in some])
        cells = [_cell(true, np.concatenate([scores[steps][kind] for kind in some])) for steps in STEPS]
        rows.append([name, str(len(true)), *cells])
    return [f"| {' | '.join(row)} |" for row in rows]


def _cell(true: Array, score: Array) -> str:
    top = min(_TOP, len(true) // 2)
    shared = len(set(np.argsort(-np.abs(true))[:top]) & set(np.argsort(-np.abs(score))[:top]))
    ranked = np.corrcoef(true.argsort().argsort(), score.argsort().argsort())
    return f"{np.corrcoef(true, score)[0, 1]:.2f} / {ranked[0, 1]:.2f}, {shared} of {top}"


def _sums(effects: Tensor) -> Array:
    sums: Array = effects.sum(dim=1).double().numpy()  # [senders, prompts] -> [senders]
    return sums


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=HEALTHY)
    parser.add_argument("--prompts", type=int, default=64)
    given = parser.parse_args()
    print("\n".join(lines(*measure(given.model, given.prompts))))


if __name__ == "__main__":
    main()
