"""Expression: the components whose activations, taken from the baseline, restore the behaviour. Not its origin.

A late MLP whose own weights never changed can carry all of it. Origin is what `origin` finds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from circuit_assertions.components import Mlp
from circuit_assertions.engine import Model
from circuit_assertions.engine.transplanting import Transplanting
from circuit_assertions.heads import Head
from circuit_assertions.measures.figures import Array, Figure, share_of
from circuit_assertions.measures.intervals import Level
from circuit_assertions.ordering import ranked
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.tasks import PromptSet

__all__ = ["Expression", "find_expression"]

_SHOWN = 5  # single components that are kept

Component = Head | Mlp
_One = TypeVar("_One", bound=Component)


@dataclass(frozen=True)
class Expression:
    """What transplants between model and baseline restore, as shares of the logit difference that the model has lost.

    Attributes:
        through: the fewest components, by their single shares in order, that together surely restore enough.
        healed: what they restore together.
        heals: what single outputs of the baseline restore in the model, first what surely restores most.
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
    suspects: Collection[Component] = (),
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
    policy: Policy = DEFAULT,
) -> Expression:
    """Transplant outputs and patterns both ways.

    Args:
        lost: logit difference that the model has less than the baseline [prompts], with a mean clear of zero.
        suspects: components that are tried whatever slopes say of them: those at fault by their weights, and heads
            whose sign is reversed.
        policy: how much is enough, and how much is tried.
    """
    healing = Transplanting(model, baseline, prompts)
    breaking = healing.turned
    tell("transplants into the model", 0, 4)
    everyone: list[Component] = [*model.layout.all_heads(), *(Mlp(layer) for layer in range(model.layout.layers))]
    few, slopes = len(everyone) <= policy.expression_all, healing.slopes()

    def tried(by: Mapping[Component, float]) -> list[Component]:
        chosen = everyone if few else [*_promising(by, policy.expression_tried), *suspects]
        return [one for one in everyone if one in chosen]

    promising = tried(slopes.outputs)
    singles = _shares(healing.outputs([[one] for one in promising]), lost)
    tell("transplants into the baseline", 1, 4)
    costly = promising if few else tried(breaking.slopes().outputs)
    costs = _shares(-breaking.outputs([[one] for one in costly]), lost)
    tell("patterns into the model", 2, 4)
    looking = _promising(slopes.patterns, _SHOWN)
    patterns = _shares(healing.patterns(looking), lost)
    tell("transplants together", 3, 4)
    level = Level.of_figures(policy)
    alone = _named(promising, singles, level)
    sets = [tuple(alone)[:size] for size in range(1, min(policy.expression_most, len(alone)) + 1)]
    figures = [Figure.of_values(one, level.among(len(sets))) for one in _shares(healing.outputs(sets), lost)]
    tell("transplants together", 4, 4)
    best = _fewest(figures, policy.expression_restores)
    breaks, looks = _named(costly, costs, level), _named(looking, patterns, level)
    return Expression(sets[best], figures[best], _shown(alone), _shown(breaks), _shown(looks))


def _promising(slopes: Mapping[_One, float], most: int) -> list[_One]:
    """Those that matter most to first order, whichever way: large changes turn slopes round."""
    return ranked(slopes, lambda one: abs(slopes[one]))[:most]


def _shares(gained: torch.Tensor, lost: Array) -> list[Array]:
    return [share_of(row, lost) for row in gained.numpy()]


def _fewest(figures: Sequence[Figure], needed: float) -> int:
    """Which of growing sets is reported: the first that surely restores enough; if none does, the best of them."""
    enough = (size for size, figure in enumerate(figures) if surely_back(figure) >= needed)
    best = ranked(range(len(figures)), lambda size: surely_back(figures[size]), decimals=2)[0]
    return next(enough, best)


def surely_back(figure: Figure) -> float:
    """How much is surely restored: the lower end of the interval, where more than all counts as all."""
    return min(figure.interval.low, 1.0)


def _named(components: Sequence[_One], shares: Sequence[Array], level: Level) -> dict[_One, Figure]:
    """Components with what each restores, first those that surely restore most; of these, the nearest to all.

    Args:
        level: what all of them share.
    """
    each = level.among(max(1, len(components)))
    figures = {one: Figure.of_values(share, each) for one, share in zip(components, shares, strict=True)}
    nearest = ranked(figures, lambda one: -abs(figures[one].mean - 1.0), decimals=2)
    return {one: figures[one] for one in ranked(nearest, lambda one: surely_back(figures[one]), decimals=2)}


def _shown(figures: Mapping[_One, Figure]) -> dict[_One, Figure]:
    return dict(list(figures.items())[:_SHOWN])
