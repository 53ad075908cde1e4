"""Minimality: whether each head of a circuit is needed in it.

A head v scores |F(C\\(K and v)) - F(C\\K)| for the subset K of the circuit's other heads that makes it largest, as a
head's work may show only where those that do the same are gone (Wang et al. 2022, section 4, with K chosen by hand).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from circuit_assertions.engine import MeasuringError, Model
from circuit_assertions.heads import Head
from circuit_assertions.measures.gaps import gaps, pairs
from circuit_assertions.measures.head_sets import RANDOM_SETS, outside
from circuit_assertions.measures.replacing import HeadSet
from circuit_assertions.measures.searching import Question, best_greedy, shown
from circuit_assertions.measures.shares import Array
from circuit_assertions.measures.sweeping import Prepared, Sweep

__all__ = ["minimality", "minimality_over_random", "minimality_parts", "search", "search_random_too"]


def search(sweep: Sweep, heads: Sequence[Head], operands: Mapping[str, Any]) -> Prepared:
    """Find the K of every head of the circuit."""
    return _search(sweep, heads, [], operands)


def search_random_too(sweep: Sweep, heads: Sequence[Head], operands: Mapping[str, Any]) -> Prepared:
    """Find the K of every head of the circuit, and that of each of some heads beside them in no circuit.

    Raises:
        MeasuringError: if a layer of the circuit has no head outside of it.
    """
    return _search(sweep, heads, _controls(sweep.model, heads), operands)


def minimality(columns: Array, operands: Mapping[str, Any]) -> Array:
    """Minimality of every head of the circuit [prompts, heads]."""
    return gaps(columns)


def minimality_over_random(columns: Array, operands: Mapping[str, Any]) -> Array:
    """Minimality of every head less the mean of the outside heads' of its layer [prompts, heads]."""
    own, others, _ = _own_and_others(columns, operands)
    above: Array = own - others
    return above


def minimality_parts(columns: Array, operands: Mapping[str, Any]) -> dict[str, Array]:
    """What `minimality_over_random` is the difference of, over all heads, each [prompts]."""
    own, _, controls = _own_and_others(columns, operands)
    return {"heads of the circuit": own.mean(axis=1), "heads outside, added": controls.mean(axis=1)}


def _own_and_others(columns: Array, operands: Mapping[str, Any]) -> tuple[Array, Array, Array]:
    """Scores of the heads, the mean of the controls of each one's layer, and the controls [prompts, heads]."""
    layers, control_layers = (np.array(operands[name]) for name in ("layers", "control-layers"))
    scores = gaps(columns)
    own, controls = scores[:, : len(layers)], scores[:, len(layers) :]
    means = [controls[:, control_layers == layer].mean(axis=1) for layer in layers]
    return own, np.stack(means, axis=1), controls


def _search(sweep: Sweep, heads: Sequence[Head], controls: Sequence[Head], operands: Mapping[str, Any]) -> Prepared:
    circuit = frozenset(heads)
    left_out = outside(sweep.model, circuit)
    questions = [Question(left_out | {head}, left_out, circuit - {head}) for head in heads]
    questions += [Question(left_out, left_out - {head}, circuit) for head in controls]
    removed: list[HeadSet] = [frozenset()] * len(questions)
    searched = operands["search"] == "greedy"
    if searched:
        removed = best_greedy(questions, partial(sweep.means, ablation=operands["ablation"]), uphill=True)
    layers = {"layers": [head.layer for head in heads], "control-layers": [head.layer for head in controls]}
    found = {f"K of {head}": shown(one) for head, one in zip(heads, removed, strict=False)} if searched else {}
    return Prepared({**pairs(questions, removed), **layers}, found, searched)


def _controls(model: Model, circuit: Sequence[Head]) -> list[Head]:
    """Up to ten random heads outside of the circuit in each of its layers, always the same."""
    rng = random.Random(0)
    controls: list[Head] = []
    for layer in sorted({head.layer for head in circuit}):
        beside = sorted(head for head in outside(model, circuit) if head.layer == layer)
        if not beside:
            raise MeasuringError(
                f"every head of layer {layer} is in the circuit, so none is left to compare with: use plain minimality"
            )
        controls += rng.sample(beside, min(RANDOM_SETS, len(beside)))
    return controls
