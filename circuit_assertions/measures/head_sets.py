"""Sets of heads: everything outside of a circuit, and random circuits like it."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from itertools import combinations, product
from typing import TYPE_CHECKING

from circuit_assertions.heads import Head

if TYPE_CHECKING:
    from circuit_assertions.engine import Model

__all__ = ["RANDOM_SETS", "HeadSet", "outside", "random_sets"]

HeadSet = frozenset[Head]

RANDOM_SETS = 10


def outside(model: Model, kept: Iterable[Head]) -> HeadSet:
    """Every head of the model that is not among `kept`."""
    return frozenset(model.layout.all_heads()) - frozenset(kept)


def random_sets(model: Model, like: Iterable[Head]) -> list[HeadSet]:
    """Sets with as many heads in each layer as this one, drawn from all heads of the layer, always the same.

    Where there are no more than would be drawn, it is all of them, each once.
    """
    counts = sorted(Counter(head.layer for head in like).items())
    if math.prod(math.comb(model.layout.heads, count) for _, count in counts) <= RANDOM_SETS:
        everyone = range(model.layout.heads)
        choices = (
            [[Head(layer, index) for index in some] for some in combinations(everyone, count)]
            for layer, count in counts
        )
        return [frozenset(head for some in chosen for head in some) for chosen in product(*choices)]
    rng = random.Random(0)
    return [
        frozenset(Head(layer, index) for layer, count in counts for index in rng.sample(range(heads), count))
        for heads in [model.layout.heads] * RANDOM_SETS
    ]
