"""Two circuits of one model, reported separately: its baseline's, called frozen, and the one rediscovered on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.chains import Chain
from circuit_assertions.assertions.circuits import Roles, everyone_in
from circuit_assertions.diagnosis.discovery.behaviour import check_behaviour
from circuit_assertions.diagnosis.discovery.find_circuit import (
    enough_prompts,
    heads_of,
    jaccard,
    repeated_for,
)
from circuit_assertions.diagnosis.discovery.follow_chain import follow
from circuit_assertions.diagnosis.discovery.followed import Followed
from circuit_assertions.diagnosis.view import View
from circuit_assertions.heads import Head
from circuit_assertions.measures.figures import Figure

__all__ = ["Circuits", "Rediscovered", "rediscover"]

_ALONE = 3  # circuits whose faithfulness is told: the frozen one in both models, and the new one


@dataclass(frozen=True)
class Rediscovered:
    """The circuit rediscovered on a model, by its prompts alone.

    Attributes:
        roles: its heads by role.
        faithfulness: share of the model's logit difference that these heads do alone.
        kept, gained, lost: heads that both circuits have, that only the new one has, and only the frozen one.
        recast: those of the kept that play another role: the frozen circuit's role, then the new one's.
        jaccard: the (role, head) pairs that both have, over those that either has.
    """

    roles: Roles
    faithfulness: Figure
    kept: tuple[Head, ...]
    gained: tuple[Head, ...]
    lost: tuple[Head, ...]
    jaccard: float
    recast: Mapping[Head, tuple[str, str]] = field(default_factory=dict)

    def role_of(self, head: Head) -> str:
        """The role that a head of it plays."""
        return _role_of(head, self.roles)


@dataclass(frozen=True)
class Circuits:
    """The frozen circuit and the rediscovered one, on the same prompts.

    Attributes:
        size: how many heads the baseline's circuit has.
        prompts: how many both were asked.
        frozen: share of the logit difference that the baseline's circuit does alone: on the baseline, and on the model,
            if that does the task.
        found: None where none was found.
        reason: why none was.
    """

    size: int
    prompts: int
    frozen: tuple[Figure, Figure | None]
    found: Rediscovered | None = None
    reason: str = field(default="")


def rediscover(
    chain: Chain,
    roles: Roles,
    baseline: View,
    model: View,
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Circuits:
    """Compare the baseline's circuit with the one that is found on the model.

    Args:
        roles: the baseline's circuit.
    """
    frozen = everyone_in(roles)
    prompts = len(model.audit.prompts(model.task, model.checkpoint))
    before, after = _alone(baseline, frozen), None
    try:
        enough_prompts(model)
        check_behaviour(model, chain)
        after = _alone(model, frozen)
        followed = _followed(chain, model, tell)
        found = heads_of(followed, model.policy.least_effect, model.task.answer_metric)
    except CircuitAssertionsError as error:  # whatever it is, the diagnosis stands without
        return Circuits(len(frozen), prompts, (before, after), reason=str(error))
    kept = tuple(head for head in found if head in frozen)
    played = {head: (_role_of(head, roles), _role_of(head, followed.roles)) for head in kept}
    rediscovered = Rediscovered(
        roles=followed.roles,
        faithfulness=_alone(model, found),
        kept=kept,
        gained=tuple(head for head in found if head not in frozen),
        lost=tuple(head for head in frozen if head not in found),
        jaccard=jaccard(frozenset((role, head) for role, heads in roles.items() for head in heads), followed.pairs),
        recast={head: (was, is_now) for head, (was, is_now) in played.items() if was != is_now},
    )
    return Circuits(len(frozen), prompts, (before, after), rediscovered)


def _role_of(head: Head, roles: Roles) -> str:
    return next(role for role, heads in roles.items() if head in heads)


def _followed(chain: Chain, model: View, tell: Callable[[str, int, int], None]) -> Followed:
    done = iter(range(len(chain.stages)))
    return follow(
        chain,
        (model,),
        repeated_for(model, chain),
        model.policy.least_effect,
        lambda step: tell("the circuit, rediscovered", next(done), len(chain.stages)),
    )[0]


def _alone(view: View, heads: Sequence[Head]) -> Figure:
    return Figure.of(view.reading("faithfulness", set=tuple(heads)), view.level.among(_ALONE))
