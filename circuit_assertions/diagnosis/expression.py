"""Expression: the components whose activations, taken from the baseline, restore the behaviour. Not its origin.

A late MLP whose own weights never changed can carry all of it. Origin is what `origin` finds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from circuit_assertions.components import Mlp
from circuit_assertions.heads import Head
from circuit_assertions.measures.figures import Array, Figure, share_of
from circuit_assertions.measures.intervals import Level
from circuit_assertions.ordering import ranked
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.tasks import PromptSet

if TYPE_CHECKING:
    import torch

    from circuit_assertions.engine import Model

__all__ = ["Expression", "Shares", "fewest", "find_expression"]

_SHOWN = 5  # single components that are kept
_SEARCH, _CHOOSE, _REPORT = range(3)  # the thirds of the prompts

Component = Head | Mlp
_One = TypeVar("_One", bound=Component)


@dataclass(frozen=True)
class Expression:
    """What transplants between model and baseline restore, as shares of the logit difference that the model has lost.

    A third of the prompts puts components in order, a third chooses how many are named, and a third reports.

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
    from circuit_assertions.engine.transplanting import Transplanting

    healing = Transplanting(model, baseline, prompts)
    breaking = healing.turned
    tell("transplants into the model", 0, 4)
    everyone: list[Component] = [*model.layout.all_heads(), *(Mlp(layer) for layer in range(model.layout.layers))]
    few, slopes = len(everyone) <= policy.expression_all, healing.slopes()

    def tried(by: Mapping[Component, float]) -> list[Component]:
        chosen = everyone if few else [*_promising(by, policy.expression_tried), *suspects]
        return [one for one in everyone if one in chosen]

    promising = tried(slopes.outputs)
    singles = Shares.of(promising, healing.outputs([[one] for one in promising]), lost, prompts, policy)
    tell("transplants into the baseline", 1, 4)
    costly = promising if few else tried(breaking.slopes().outputs)
    costs = Shares.of(costly, -breaking.outputs([[one] for one in costly]), lost, prompts, policy)
    tell("patterns into the model", 2, 4)
    looking = _promising(slopes.patterns, _SHOWN)
    patterns = Shares.of(looking, healing.patterns(looking), lost, prompts, policy)
    tell("transplants together", 3, 4)
    alone = singles.in_order()
    sizes = range(1, min(policy.expression_most, len(alone)) + 1)
    sets = Shares.of(sizes, healing.outputs([alone[:size] for size in sizes]), lost, prompts, policy)
    tell("transplants together", 4, 4)
    best = fewest(sets.on(_CHOOSE), policy.expression_restores)
    healed = sets.on(_REPORT)[best]
    return Expression(tuple(alone[:best]), healed, singles.shown(), costs.shown(), patterns.shown())


_Any = TypeVar("_Any")


@dataclass(frozen=True)
class Shares(Generic[_Any]):
    """What single transplants, or sets of them, restore, on each third of the prompts.

    Attributes:
        thirds: the shares by what was transplanted, one value per prompt.
        level: what all of them share.
    """

    thirds: tuple[Mapping[_Any, Array], ...]
    level: Level

    @classmethod
    def of(
        cls, items: Sequence[_Any], gained: torch.Tensor, lost: Array, prompts: PromptSet, policy: Policy
    ) -> Shares[_Any]:
        """From what is gained of what is lost.

        Args:
            gained: logit difference [items, prompts].
            lost: [prompts]
        """
        rows, level = [list(some) for some in prompts.shared_out(3)], Level.of_figures(policy)
        pairs = list(zip(items, gained.numpy(), strict=True))
        thirds = ({item: share_of(values[some], lost[some]) for item, values in pairs} for some in rows)
        return cls(tuple(thirds), level.among(max(1, len(items))))

    def on(self, third: int) -> dict[_Any, Figure]:
        """The figures on a third of the prompts."""
        return {item: Figure.of_values(share, self.level) for item, share in self.thirds[third].items()}

    def in_order(self) -> list[_Any]:
        """First those that surely restore most on the prompts that search; of these, the nearest to all."""
        figures = self.on(_SEARCH)
        nearest = ranked(figures, lambda one: -abs(figures[one].mean - 1.0), decimals=2)
        return ranked(nearest, lambda one: surely_back(figures[one]), decimals=2)

    def shown(self) -> dict[_Any, Figure]:
        """Those that come first, with the figures that are reported."""
        figures = self.on(_REPORT)
        return {one: figures[one] for one in self.in_order()[:_SHOWN]}


def _promising(slopes: Mapping[_One, float], most: int) -> list[_One]:
    """Those that matter most to first order, whichever way: large changes turn slopes round."""
    return ranked(slopes, lambda one: abs(slopes[one]))[:most]


def fewest(figures: Mapping[int, Figure], needed: float) -> int:
    """The size of the set that is named: the first that surely restores enough; if none does, the best of them."""
    enough = (size for size, figure in figures.items() if surely_back(figure) >= needed)
    best = ranked(list(figures), lambda size: surely_back(figures[size]), decimals=2)[0]
    return next(enough, best)


def surely_back(figure: Figure) -> float:
    """How much is surely restored: the lower end of the interval, where more than all counts as all."""
    return min(figure.interval.low, 1.0)
