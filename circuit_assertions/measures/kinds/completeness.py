"""Completeness: whether a circuit without some of its heads still does what the model without them does.

Incompleteness is |F(C\\K) - F(M\\K)| for the subset K of the circuit C that makes it largest (Wang et al. 2022, section
4). For the empty K it is the distance of faithfulness from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from circuit_assertions.measures.ablations import BIASED, SEARCHED, SHARE, Ablated
from circuit_assertions.measures.declaring import CAUSAL, WANG, Asked, Prepared, measure
from circuit_assertions.measures.gaps import both_ways, gaps, pairs
from circuit_assertions.measures.head_sets import HeadSet, outside, random_sets
from circuit_assertions.measures.searching import Question, best_greedy, best_random, shown
from circuit_assertions.measures.shares import Array
from circuit_assertions.tasks import TO_PATCH

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Pass
    from circuit_assertions.measures.sweeping import Sweep

__all__ = ["incompleteness", "incompleteness_over_random"]


class Searched(Ablated):
    """A circuit whose K is searched."""

    search: Literal["greedy", "random"] = Field("greedy", description=SEARCHED)


class SearchedWithRandom(Ablated):
    """The same with random circuits beside it, whose K are searched too."""

    search: Literal["random", "greedy"] = Field("random", description=SEARCHED)


def _search(sweep: Sweep, asked: Asked[Any], others: Sequence[HeadSet] = ()) -> Prepared:
    """Find the K of the circuit, and of others beside it."""
    circuits = [frozenset(asked.operands.set), *others]
    questions = [Question(outside(sweep.model, circuit), frozenset(), circuit) for circuit in circuits]
    best = best_greedy if asked.operands.search == "greedy" else best_random
    removed = best(questions, partial(sweep.means, ablation=asked.operands.ablation))
    return Prepared(pairs(questions, removed), {"K": shown(removed[0])})


def _search_random_too(sweep: Sweep, asked: Asked[Any]) -> Prepared:
    return _search(sweep, asked, random_sets(sweep.model, asked.operands.set))


def _first_gap(columns: Array, asked: Asked[Searched]) -> Array:
    """Incompleteness of the circuit [prompts]."""
    return gaps(columns)[:, 0]


@measure(
    "incompleteness",
    kind="set",
    operands=Searched,
    unit=SHARE,
    help="how far the circuit without K is from the model without K, |F(C\\K) - F(M\\K)| over F(M), for the subset "
    "K of its heads where that is most (a lower bound: the search is greedy, or over ten random K); 0 is "
    f"complete. K is searched {BIASED}",
    source=f"{WANG}, section 4 (completeness; the greedy search of the released code, not of Algorithm 3)",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching", "whole_templates"),
    lowest=0,
    of_means=True,  # a ratio of means: single prompts may lie below
    prepare=_search,
    finish=_first_gap,
)
def incompleteness(taken: Pass, asked: Asked[Searched]) -> Tensor:
    """Logit difference of the model, without all but the circuit and K, and without K alone [prompts, 3]."""
    return both_ways(taken, asked)


def _parts(columns: Array, asked: Asked[SearchedWithRandom]) -> dict[str, Array]:
    """What `incompleteness-over-random` is the difference of, each [prompts]."""
    shares = gaps(columns)  # [prompts, circuits]
    return {"this circuit": shares[:, 0], "random circuits": shares[:, 1:].mean(axis=1)}


def _over_random(columns: Array, asked: Asked[SearchedWithRandom]) -> Array:
    """Incompleteness of the circuit less the mean of the random circuits' [prompts]; below 0 is better than random."""
    own, random = _parts(columns, asked).values()
    above: Array = own - random
    return above


@measure(
    "incompleteness-over-random",
    kind="set",
    operands=SearchedWithRandom,
    unit=SHARE,
    help="incompleteness of these heads minus that of random sets with as many heads in each layer "
    "(at most ten, seeded), each with its own K; below 0 is better than random. Searched and read as "
    "incompleteness is",
    source="a control for incompleteness: sets matched in size and layers",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching", "whole_templates"),
    of_means=True,
    prepare=_search_random_too,
    finish=_over_random,
    beside=_parts,
)
def incompleteness_over_random(taken: Pass, asked: Asked[SearchedWithRandom]) -> Tensor:
    """The columns of `incompleteness`, and two for each random circuit [prompts, 3 + 2 circuits]."""
    return both_ways(taken, asked)
