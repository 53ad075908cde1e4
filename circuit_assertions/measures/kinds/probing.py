"""Probes: whether the right answer can be read linearly from the residual stream after a block. The model is frozen.

A ridge regression learns, from the residual stream of some prompts, the direction in which the unembedding
distinguishes a right answer from the wrong one, and is read on the others (five folds; prompts that are the same are in
one fold). So it does not matter how many different answers there are. Where no wrong answer is ever a right one, each
right answer is distinguished from that of another prompt. A read-out of shuffled answers is the control.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from circuit_assertions.engine import MeasuringError
from circuit_assertions.measures.declaring import ANSWERS, Array, Asked, measure
from circuit_assertions.measures.operands import Operands, Position
from circuit_assertions.tasks import END, Answers

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Model, Pass

__all__ = ["Probed", "probe_accuracy"]

_FOLDS = 5
_FEWEST = 2 * _FOLDS  # prompts that differ
_PENALTIES = tuple(10.0**power for power in range(-2, 6))  # of the ridge, chosen on each fold's own training prompts


class Probed(Operands):
    """Where a probe reads."""

    layer: int | None = Field(
        None,
        ge=0,
        strict=True,
        description="the block after which is read, from 0; without it the best, chosen on the prompts that the probe "
        "learns from",
    )
    at: Position = Field(END, description="the position whose residual stream is read")


def _hits(columns: Array, asked: Asked[Probed], shuffled: bool) -> Array:
    """1 where a probe that learned from other prompts prefers the right answer [prompts]."""
    layers, width = columns[0, :2].astype(int)
    parts = np.split(columns[:, 2:], [layers * width, (layers + 1) * width], axis=1)
    blocks = parts[0].reshape(len(columns), layers, width)
    right, other = _contrasts(parts[1], parts[2])
    drawn = np.random.default_rng(0)
    if shuffled:
        moved = drawn.permutation(len(right))
        right, other = right[moved], other[moved]
    return _cross_validated(blocks, right - other)


def _contrasts(right: Array, wrong: Array) -> tuple[Array, Array]:
    """What each prompt's right answer is, and what it is distinguished from, as directions [prompts, d_model].

    Raises:
        MeasuringError: if all right answers are the same.
    """
    classes = {one.tobytes() for one in right}
    if len(classes) < 2:
        raise MeasuringError(
            "all prompts of the task have the same right answer, so that a probe has one class only: give prompts with "
            "different answers"
        )
    if any(one.tobytes() in classes for one in wrong):
        return right, wrong
    drawn, other = np.random.default_rng(1), np.empty_like(right)
    for row, own in enumerate(right):
        choice = [place for place, one in enumerate(right) if one.tobytes() != own.tobytes()]
        other[row] = right[drawn.choice(choice)]
    return right, other


def _cross_validated(blocks: Array, target: Array) -> Array:
    """1 where the prediction of a held-out prompt points the way of its target [prompts].

    Args:
        blocks: the residual stream [prompts, layers, d_model].
        target: [prompts, d_model].

    Raises:
        MeasuringError: if there are too few prompts that differ.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    _, same = np.unique(blocks.reshape(len(blocks), -1), axis=0, return_inverse=True)
    groups = same.reshape(-1)
    if len(set(groups.tolist())) < _FEWEST:
        raise MeasuringError(
            f"{len(set(groups.tolist()))} different prompts are too few for a probe: use at least {_FEWEST}"
        )
    hits = np.zeros(len(blocks))
    with threadpool_limits(1, user_api="blas"):  # the matrices are small, and threads wait for each other longer
        for learned, held in GroupKFold(_FOLDS).split(blocks, groups=groups):
            best: tuple[float, Any, int] | None = None
            for layer in range(blocks.shape[1]):
                probe = make_pipeline(StandardScaler(), RidgeCV(_PENALTIES))
                probe.fit(blocks[learned, layer], target[learned])
                score = float(probe[-1].best_score_)  # of prompts left out one by one among those that it learns from
                if best is None or score > best[0]:
                    best = score, probe, layer
            assert best is not None
            said = best[1].predict(blocks[held, best[2]])
            hits[held] = (said * target[held]).sum(axis=1) > 0
    return hits


def _accuracy(columns: Array, asked: Asked[Probed]) -> Array:
    return _hits(columns, asked, shuffled=False)


def _beside(columns: Array, asked: Asked[Probed]) -> dict[str, Array]:
    return {"shuffled answers": _hits(columns, asked, shuffled=True)}


@measure(
    "probe-accuracy",
    kind="model",
    operands=Probed,
    unit="share of prompts",
    help="how often a linear read-out of the residual stream after a block, learned from other prompts, prefers the "
    "right answer to the wrong one (ridge regression, five folds; shuffled answers as a control); the model is frozen. "
    "Compare it with the same of a model that never had the behaviour",
    source="Jain et al. 2024, arXiv 2311.12786 (probes after each block; the read-out by unembedding directions is "
    "this project's)",
    needs=ANSWERS,
    wants=("entering", "end_writes"),
    hits=True,
    lowest=0,
    highest=1,
    finish=_accuracy,
    beside=_beside,
)
def probe_accuracy(taken: Pass, asked: Asked[Probed]) -> Tensor:
    """Number of layers, width, the residual stream, the directions of right and wrong answers [prompts, numbers]."""
    import torch

    model, at = taken.model, asked.operands.at
    last = model.layout.layers - 1
    if asked.operands.layer is not None and asked.operands.layer > last:
        raise MeasuringError(f"the model has no block {asked.operands.layer}: its last one is {last}")
    chosen = range(last + 1) if asked.operands.layer is None else [asked.operands.layer]
    rows = torch.arange(len(taken.prompts))
    places = taken.positions(at)
    blocks = []
    for layer in chosen:
        if layer < last:
            assert taken.entering is not None
            blocks.append(taken.entering.at(layer + 1, rows, places))
        elif at == END:
            assert taken.final_residual is not None
            blocks.append(taken.final_residual)
        elif asked.operands.layer is not None:
            raise MeasuringError(f"after the last block only `{END}` is read: name an earlier layer")
    wide = [block.double().cpu() for block in blocks]  # each [prompts, d_model]
    answers = [_directions(model, [getattr(one, side) for one in taken.prompts]) for side in ("right", "wrong")]
    told = torch.tensor([[len(wide), wide[0].shape[1]]] * len(rows), dtype=torch.float64)
    return torch.cat([told, *wide, *answers], dim=1)


def _directions(model: Model, answers: list[Answers]) -> Tensor:
    """The weighted mean of the answers' columns of the unembedding [prompts, d_model]."""
    import torch

    columns = model.layout.bridge.unembed.W_U.detach()
    found = []
    for one in answers:
        weights = torch.tensor(one.weights, dtype=torch.float64)
        own = columns[:, list(one.tokens)].double().cpu()
        found.append(own @ (weights / weights.sum()))
    return torch.stack(found)
