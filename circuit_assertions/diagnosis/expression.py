"""Where a change shows: whose activations, taken from the baseline, bring the behaviour back. Not where it comes from.

A late MLP whose own weights never changed can carry all of it. Origin is what `origin` finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from circuit_assertions.components import Mlp
from circuit_assertions.engine import Model
from circuit_assertions.engine.transplanting import Transplanting
from circuit_assertions.heads import Head
from circuit_assertions.measures.figures import Array, Figure, share_of
from circuit_assertions.tasks import PromptSet

__all__ = ["Expression", "find_expression"]

_ALL = 40  # components up to which each is tried alone, both ways
_ALONE = 8  # of more, those that matter most to first order
_ENOUGH = 0.9  # of what was lost
_MOST = 6  # components that a set may have
_SHOWN = 5  # single components that are kept

Component = Head | Mlp
_One = TypeVar("_One", bound=Component)


@dataclass(frozen=True)
class Expression:
    """What transplants between model and baseline bring; shares of the logit difference that the model has lost.

    Attributes:
        through: the fewest components, by their single shares in order, that together bring back most.
        healed: what they bring back together.
        heals: single outputs of the baseline in the model, the strongest first.
        breaks: single outputs of the model in the baseline: what they cost there.
        patterns: attention patterns of the baseline alone, in the model.
    """

    through: tuple[Component, ...]
    healed: Figure
    heals: Mapping[Component, Figure]
    breaks: Mapping[Component, Figure]
    patterns: Mapping[Head, Figure]


def find_expression(
    model: Model,
    baseline: Model,
    prompts: PromptSet,
    lost: Array,
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Expression:
    """Transplant outputs and patterns both ways.

    Args:
        lost: logit difference that the model has less than the baseline [prompts], with a mean clear of zero.
    """
    healing = Transplanting(model, baseline, prompts)
    breaking = healing.turned
    tell("transplants into the model", 0, 4)
    everyone: list[Component] = [*model.layout.all_heads(), *(Mlp(layer) for layer in range(model.layout.layers))]
    few, slopes = len(everyone) <= _ALL, healing.slopes()
    promising = everyone if few else _promising(slopes.outputs, _ALONE)
    singles = _shares(healing.outputs([[one] for one in promising]), lost)
    tell("transplants into the baseline", 1, 4)
    costly = everyone if few else _promising(breaking.slopes().outputs, _ALONE)
    costs = _shares(-breaking.outputs([[one] for one in costly]), lost)
    tell("patterns into the model", 2, 4)
    looking = _promising(slopes.patterns, _SHOWN)
    patterns = _shares(healing.patterns(looking), lost)
    tell("transplants together", 3, 4)
    order = _order(singles)
    sets: list[Sequence[Component]] = [
        [promising[index] for index in order[:size]] for size in range(1, min(_MOST, len(order)) + 1)
    ]
    together = [singles[order[0]], *_shares(healing.outputs(sets[1:]), lost)]
    tell("transplants together", 4, 4)
    chosen = next((index for index, share in enumerate(together) if share.mean() >= _ENOUGH), None)
    best = max(range(len(sets)), key=lambda index: float(together[index].mean())) if chosen is None else chosen
    return Expression(
        tuple(sets[best]),
        Figure.of_values(together[best]),
        _strongest(promising, singles),
        _strongest(costly, costs),
        _strongest(looking, patterns),
    )


def _promising(slopes: Mapping[_One, float], most: int) -> list[_One]:
    """Those that matter most to first order, whichever way: large changes turn slopes round."""
    return sorted(slopes, key=lambda one: -abs(slopes[one]))[:most]


def _shares(gained: torch.Tensor, lost: Array) -> list[Array]:
    return [share_of(row, lost) for row in gained.numpy()]


def _order(shares: Sequence[Array]) -> list[int]:
    return sorted(range(len(shares)), key=lambda index: -float(shares[index].mean()))


def _strongest(components: Sequence[_One], shares: Sequence[Array]) -> dict[_One, Figure]:
    return {components[index]: Figure.of_values(shares[index]) for index in _order(shares)[:_SHOWN]}
