"""The result of a discovery: the heads of each role with their evidence, or why there is no circuit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from circuit_assertions.measures.figures import Figure as MeasuredFigure
from circuit_assertions.results.base import Part, PolicyUsed, Result
from circuit_assertions.results.values import Figure, MetricFacts, figures

if TYPE_CHECKING:
    from circuit_assertions.diagnosis.discovery import Discovery, Placed
    from circuit_assertions.diagnosis.discovery.criteria import Missed
    from circuit_assertions.diagnosis.discovery.followed import Effect
    from circuit_assertions.diagnosis.discovery.thresholds import Proposal

__all__ = [
    "DiscoveryResult",
    "FoundCircuit",
    "NearestRule",
    "PlacedHead",
    "ProposedThreshold",
    "RuleCriterion",
    "StabilityFound",
]


class RuleCriterion(Part):
    """One thing that a rule asks of a head.

    Attributes:
        name: a score, or the attention from one position to another.
        reads: the head's mean; None where it could not be read.
        needed: the least mean, and whether it is `met`.
        more_than: the position to which the head must attend clearly less; `needed` is then its attention to that.
    """

    name: str
    reads: float | None
    needed: float
    met: bool
    more_than: str | None = None


class NearestRule(Part):
    """The rule that a head without a role came nearest to, of those at stages where it has the effect.

    Attributes:
        role: that the rule gives, at `stage`.
        criteria: all that the rule asks beside the effect.
    """

    role: str
    stage: str
    criteria: tuple[RuleCriterion, ...]


class PlacedHead(Part):
    """A head of the circuit.

    Attributes:
        effects: in the unit of the metric, by the stage of the search that read them.
        effect_on: the stage that gave its role; where none did, that of the largest effect.
        evidence: what its role was judged by.
        undecided: roles that the evidence could not decide between.
        nearest: of a head without a role, the rule that it came nearest to; None where it has no rule's effect.
    """

    role: str
    effects: dict[str, Figure]
    effect_on: str
    evidence: dict[str, float]
    undecided: tuple[str, ...]
    nearest: NearestRule | None = None

    @property
    def telling(self) -> Figure:
        """The effect by which it has its role."""
        return self.effects[self.effect_on]


class StabilityFound(Part):
    """The same discovery on disjoint halves of the prompts: the overlap of their circuits, in all and by role.

    Attributes:
        jaccard_of_halves: the mean of `by_split`.
        by_split: the overlap for each random split into halves.
        by_role: the mean of the splits, for each role.
        unstable: whether the overlap is so small that these prompts are too few.
    """

    jaccard_of_halves: float
    by_split: list[float]
    by_role: dict[str, float]
    unstable: bool


class ProposedThreshold(Part):
    """A bound that the circuit file proposes to suites.

    Attributes:
        says: measure, heads and operands, as a suite would write them.
        bound: the key of the condition, `at-least` or `at-most`, and `at`, its value.
        reads: the mean of the reading, and `margin`, its distance from the bound.
    """

    says: dict[str, Any]
    bound: str
    at: float
    reads: float
    margin: float


class FoundCircuit(Part):
    """A circuit with what tells how far to trust it.

    Attributes:
        metric: of the task; effects are in its unit.
        shorts: the abbreviations of roles in the head map, and `colours`, those of their lines in pictures of runs; of
            roles whose chain gives them.
        behaviour: the answer metric and `answer-rate`, by their measures.
        answer_rate_by_kind: for each kind of prompt, where two of them clearly differ.
        undecided_on: how many prompts were asked for, where more were drawn because these did not decide; else None.
        on_repeated: on how many sequences of random tokens heads were scored; 0 where they were not.
        faithfulness: of the circuit, of random circuits, and of the heads that have a role.
        unclear: heads with an effect that is large enough, but not clear of zero.
        model: shape, fingerprint and dtype of the checkpoint.
        settings: how it was searched.
        went_on_from: the stages that start from a role without heads, and the heads without a role that they went on
            from.
        mlps: the MLPs with an effect, each with its effects by stage, where the chain asks for them.
        not_proposed: the roles whose effect has no threshold, because suites cannot name the heads that it is on.
    """

    roles: dict[str, tuple[str, ...]]
    heads: dict[str, PlacedHead]
    metric: MetricFacts
    shorts: dict[str, str]
    colours: dict[str, str]
    behaviour: dict[str, Figure]
    answer_rate_by_kind: dict[str, Figure]
    undecided_on: int | None
    on_repeated: int
    faithfulness: dict[str, Figure]
    stability: StabilityFound
    unclear: tuple[str, ...]
    thresholds: tuple[ProposedThreshold, ...]
    model: dict[str, Any]
    task: dict[str, Any]
    settings: dict[str, Any]
    went_on_from: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    not_proposed: tuple[str, ...] = ()
    mlps: dict[str, dict[str, Figure]] = Field(default_factory=dict)


class DiscoveryResult(Result):
    """A circuit that was found in a checkpoint, or the reason why none was.

    Attributes:
        circuit: its name; None where none was found.
        undecided: whether the prompts could not decide.
        reason: why none was found.
        file: the circuit file that was written.
    """

    kind: Literal["discovery"] = "discovery"
    checkpoint: str
    circuit: str | None = None
    undecided: bool = False
    reason: str | None = None
    found: FoundCircuit | None = None
    file: str | None = None

    @classmethod
    def of(cls, discovery: Discovery, file: str) -> DiscoveryResult:
        """The result of a discovery that found a circuit."""
        followed = discovery.followed
        found = FoundCircuit(
            roles={role: tuple(map(str, heads)) for role, heads in followed.roles.items()},
            heads={str(one.head): _head(one) for one in followed.placed},
            metric=MetricFacts.of(discovery.metric),
            shorts={name: role.short for name, role in discovery.roles.items() if role.short},
            colours={name: role.colour for name, role in discovery.roles.items() if role.colour},
            behaviour=figures(discovery.behaviour),
            answer_rate_by_kind=figures(discovery.kinds),
            undecided_on=discovery.asked,
            on_repeated=discovery.on_repeated,
            faithfulness=figures(discovery.faithfulness),
            stability=StabilityFound(
                jaccard_of_halves=discovery.stability.jaccard,
                by_split=list(discovery.stability.by_split),
                by_role=dict(discovery.stability.by_role),
                unstable=discovery.stability.low,
            ),
            unclear=tuple(map(str, followed.unclear)),
            thresholds=tuple(map(_threshold, discovery.thresholds)),
            model=dict(discovery.model),
            task=dict(discovery.task),
            settings=dict(discovery.settings),
            went_on_from={stage: tuple(map(str, heads)) for stage, heads in followed.went_on_from.items()},
            not_proposed=discovery.not_proposed,
            mlps={str(one.mlp): _effects(one.effects) for one in discovery.mlps},
        )
        return cls(
            policy=PolicyUsed.of(discovery.policy),
            checkpoint=str(discovery.checkpoint),
            circuit=discovery.circuit,
            found=found,
            file=file,
        )


def _head(placed: Placed) -> PlacedHead:
    return PlacedHead(
        role=placed.role,
        effects=_effects(placed.effects),
        effect_on=placed.telling.stage,
        evidence=dict(placed.evidence),
        undecided=tuple(placed.undecided),
        nearest=None if placed.nearest is None else _nearest(placed.nearest),
    )


def _effects(effects: Iterable[Effect]) -> dict[str, Figure]:
    return {one.stage: Figure.of(MeasuredFigure(one.mean, one.interval)) for one in effects}


def _nearest(missed: Missed) -> NearestRule:
    criteria = tuple(RuleCriterion(**vars(criterion)) for criterion in missed.criteria)
    return NearestRule(role=missed.role, stage=missed.stage, criteria=criteria)


def _threshold(proposal: Proposal) -> ProposedThreshold:
    return ProposedThreshold(
        says=dict(proposal.says),
        bound=proposal.bound.key,
        at=proposal.bound.number,
        reads=proposal.reads,
        margin=proposal.margin,
    )
