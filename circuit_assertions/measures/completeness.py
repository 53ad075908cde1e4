"""Completeness: whether a circuit without some of its heads still does what the model without them does.

Incompleteness is |F(C\\K) - F(M\\K)| for the subset K of the circuit C that makes it largest (Wang et al. 2022, section
4). For the empty K it is the distance of faithfulness from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from circuit_assertions.heads import Head
from circuit_assertions.measures.gaps import gaps, pairs
from circuit_assertions.measures.head_sets import outside, random_sets
from circuit_assertions.measures.replacing import HeadSet
from circuit_assertions.measures.searching import Question, best_greedy, best_random, shown
from circuit_assertions.measures.shares import Array
from circuit_assertions.measures.sweeping import Prepared, Sweep

__all__ = ["incompleteness", "incompleteness_over_random", "incompleteness_parts", "search", "search_random_too"]


def search(sweep: Sweep, heads: Sequence[Head], operands: Mapping[str, Any]) -> Prepared:
    """Find the K of the circuit."""
    return _search(sweep, [frozenset(operands["set"])], operands)


def search_random_too(sweep: Sweep, heads: Sequence[Head], operands: Mapping[str, Any]) -> Prepared:
    """Find the K of the circuit, and that of each of some random circuits like it."""
    return _search(sweep, [frozenset(operands["set"]), *random_sets(sweep.model, operands["set"])], operands)


def incompleteness(columns: Array, operands: Mapping[str, Any]) -> Array:
    """Incompleteness of the circuit [prompts]."""
    return gaps(columns)[:, 0]


def incompleteness_over_random(columns: Array, operands: Mapping[str, Any]) -> Array:
    """Incompleteness of the circuit less the mean of the random circuits' [prompts]; below 0 is better than random."""
    own, random = incompleteness_parts(columns, operands).values()
    above: Array = own - random
    return above


def incompleteness_parts(columns: Array, operands: Mapping[str, Any]) -> dict[str, Array]:
    """What `incompleteness_over_random` is the difference of, each [prompts]."""
    shares = gaps(columns)  # [prompts, circuits]
    return {"this circuit": shares[:, 0], "random circuits": shares[:, 1:].mean(axis=1)}


def _search(sweep: Sweep, circuits: Sequence[HeadSet], operands: Mapping[str, Any]) -> Prepared:
    questions = [Question(outside(sweep.model, circuit), frozenset(), circuit) for circuit in circuits]
    best = best_greedy if operands["search"] == "greedy" else best_random
    removed = best(questions, partial(sweep.means, ablation=operands["ablation"]))
    return Prepared(pairs(questions, removed), {"K": shown(removed[0])})
