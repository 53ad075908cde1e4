"""Minimality: whether each head of a circuit is needed in it.

A head v scores |F(C\\(K and v)) - F(C\\K)| for the subset K of the circuit's other heads that makes it largest, as a
head's work may show only where those that do the same are gone (Wang et al. 2022, section 4, with K chosen by hand).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from circuit_assertions.engine import MeasuringError
from circuit_assertions.heads import Head
from circuit_assertions.measures.ablations import BIASED, SEARCHED, SHARE, Ablated
from circuit_assertions.measures.declaring import CAUSAL, WANG, Asked, Prepared, measure
from circuit_assertions.measures.gaps import both_ways, gaps, pairs
from circuit_assertions.measures.head_sets import RANDOM_SETS, HeadSet, outside
from circuit_assertions.measures.searching import Question, best_greedy, shown
from circuit_assertions.measures.shares import Array
from circuit_assertions.tasks import TO_PATCH

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Model, Pass
    from circuit_assertions.measures.sweeping import Sweep

__all__ = ["minimality", "minimality_over_random"]


class Searched(Ablated):
    """A circuit; K is searched for each of its heads, or is no head."""

    search: Literal["greedy", "none"] = Field("greedy", description=SEARCHED)


class SearchedWithRandom(Ablated):
    """The same with heads outside of the circuit beside it."""

    search: Literal["none", "greedy"] = Field("none", description=SEARCHED)


def _search(sweep: Sweep, asked: Asked[Any], controls: Sequence[Head] = ()) -> Prepared:
    """Find the K of every head of the circuit, and of heads beside it."""
    heads: Sequence[Head] = asked.components
    circuit = frozenset(heads)
    left_out = outside(sweep.model, circuit)
    questions = [Question(left_out | {head}, left_out, circuit - {head}) for head in heads]
    questions += [Question(left_out, left_out - {head}, circuit) for head in controls]
    removed: list[HeadSet] = [frozenset()] * len(questions)
    searched = asked.operands.search == "greedy"
    if searched:
        removed = best_greedy(questions, partial(sweep.means, ablation=asked.operands.ablation), uphill=True)
    layers = {"layers": [head.layer for head in heads], "control-layers": [head.layer for head in controls]}
    found = {f"K of {head}": shown(one) for head, one in zip(heads, removed, strict=False)} if searched else {}
    return Prepared({**pairs(questions, removed), **layers}, found, searched)


def _search_random_too(sweep: Sweep, asked: Asked[Any]) -> Prepared:
    """Find the K of every head of the circuit, and that of each of some heads beside them in no circuit.

    Raises:
        MeasuringError: if a layer of the circuit has no head outside of it.
    """
    return _search(sweep, asked, _controls(sweep.model, asked.components))


def _gaps(columns: Array, asked: Asked[Searched]) -> Array:
    """Minimality of every head of the circuit [prompts, heads]."""
    return gaps(columns)


@measure(
    "minimality",
    kind="set",
    each=True,
    operands=Searched,
    unit=SHARE,
    help="what the circuit without K loses or gains with the head, |F(C\\(K and v)) - F(C\\K)| over F(M), K being "
    "the subset of its other heads where that is most (greedy, as long as it grows), or no head (none). K is "
    f"searched {BIASED}",
    source=f"{WANG}, section 4 (minimality; K searched instead of chosen by hand)",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching", "whole_templates"),
    lowest=0,
    of_means=True,  # a ratio of means: single prompts may lie below
    prepare=_search,
    finish=_gaps,
)
def minimality(taken: Pass, asked: Asked[Searched]) -> Tensor:
    """Logit difference of the model, then without each head and K, and without K alone [prompts, 1 + 2 heads]."""
    return both_ways(taken, asked)


def _over_random(columns: Array, asked: Asked[SearchedWithRandom]) -> Array:
    """Minimality of every head less the mean of the outside heads' of its layer [prompts, heads]."""
    own, others, _ = _own_and_others(columns, asked)
    above: Array = own - others
    return above


def _parts(columns: Array, asked: Asked[SearchedWithRandom]) -> dict[str, Array]:
    """What `minimality-over-random` is the difference of, over all heads, each [prompts]."""
    own, _, controls = _own_and_others(columns, asked)
    return {"heads of the circuit": own.mean(axis=1), "heads outside, added": controls.mean(axis=1)}


@measure(
    "minimality-over-random",
    kind="set",
    each=True,
    operands=SearchedWithRandom,
    unit=SHARE,
    help="minimality of the head minus that of heads outside the circuit, each added to it: up to ten random "
    "heads of the same layer, seeded; above 0 is better than random. Searched and read as minimality is",
    source="a control for minimality: heads of the same layers",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching", "whole_templates"),
    of_means=True,
    prepare=_search_random_too,
    finish=_over_random,
    beside=_parts,
)
def minimality_over_random(taken: Pass, asked: Asked[SearchedWithRandom]) -> Tensor:
    """The columns of `minimality`, and two for each head outside [prompts, 1 + 2 heads + 2 controls]."""
    return both_ways(taken, asked)


def _own_and_others(columns: Array, asked: Asked[SearchedWithRandom]) -> tuple[Array, Array, Array]:
    """Scores of the heads, the mean of the controls of each one's layer, and the controls [prompts, heads]."""
    layers, control_layers = (np.array(asked.prepared[name]) for name in ("layers", "control-layers"))
    scores = gaps(columns)
    own, controls = scores[:, : len(layers)], scores[:, len(layers) :]
    means = [controls[:, control_layers == layer].mean(axis=1) for layer in layers]
    return own, np.stack(means, axis=1), controls


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
