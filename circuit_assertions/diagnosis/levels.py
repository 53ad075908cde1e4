"""With how many others an interval of a discovery or a diagnosis shares its level: all that one verdict rests on.

The counts are those of the circuit, the chain and the model, not of what was found, so that no reading changes them.
Each checkpoint of a training run has a verdict of its own, as if it were diagnosed alone: otherwise the verdict would
depend on how many checkpoints are kept. A question with a single interval has the whole level: whether a loss is clear,
or whether a role has an effect that `role-stability` is a share of.
"""

from __future__ import annotations

from circuit_assertions.assertions.chains import Attends, Chain, Stage
from circuit_assertions.assertions.circuits import Roles
from circuit_assertions.measures.intervals import Level
from circuit_assertions.policy import Policy

__all__ = ["RACED_FROM", "of_discovery", "of_exits", "of_heads", "of_recovery", "of_roles"]

RACED_FROM = 64  # heads of a model from which on a race of heads takes less time than reading everything at once
_OF_A_HEAD = 5  # its effect before and after, their difference, the slope of one on the other, and where it looks


def of_roles(policy: Policy, roles: Roles) -> Level:
    """Of the behaviour and of each role: on the baseline, and the share that the model keeps.

    The verdict of a diagnosis rests on these and on the heads whose sign is reversed; each part has half of the level.
    """
    return Level.of_figures(policy).among(2).among(2 * (1 + len(roles)))


def of_heads(policy: Policy, roles: Roles) -> Level:
    """Of what each head of a circuit does in two models: the other half of the level."""
    return Level.of_figures(policy).among(2).among(_OF_A_HEAD * sum(map(len, roles.values())))


def of_recovery(policy: Policy, roles: int) -> Level:
    """Of what recovery is judged by: the share, the answer, the knock-out, and each role.

    The roles' own intervals are those of the verdict, which are wider.
    """
    return Level.of_figures(policy).among(3 + roles)


def of_discovery(policy: Policy, chain: Chain, heads: int) -> Level:
    """Of the effect of each head at each stage of a chain, and of where it looks by each rule.

    A head is given a role by mistake if it has no effect at the stage, or if it has one and does not look there. So a
    stage takes one part of the level, or one for each place that its rules ask about where these are more. A head's
    effect has one sign, so that only the rules for that sign count. A rule that compares several positions needs all of
    them, and takes no more than one part; nor do several rules that ask about the same place, which then are
    alternatives.
    """
    parts = sum(max(1, *_places_asked(stage)) for stage in chain.stages)
    figures = _part_of_figures(policy, 1 - policy.exit_share) if heads >= RACED_FROM else Level.of_figures(policy)
    return figures.among(parts * heads)


def of_exits(policy: Policy, chain: Chain, heads: int, looks: int) -> Level:
    """Of the effect of each head at each stage, at each look at which heads may leave the search."""
    return _part_of_figures(policy, policy.exit_share).among(len(chain.stages) * heads * looks)


def _part_of_figures(policy: Policy, share: float) -> Level:
    """A share of the error that the figures of one verdict may have together."""
    return Level(1 - share * (1 - policy.figure_confidence))


def _places_asked(stage: Stage) -> tuple[int, int]:
    """How many different places the rules for a positive effect ask about, and those for a negative one."""
    asked: dict[int, list[Attends]] = {1: [], -1: []}
    for rule in stage.rules:
        if rule.attends not in asked[rule.direction]:
            asked[rule.direction].append(rule.attends)
    return len(asked[1]), len(asked[-1])
