"""The result of a diagnosis: every figure with its interval. What was not looked for is null."""

from __future__ import annotations

from typing import Any, Literal

from circuit_assertions.results.base import Part, Result
from circuit_assertions.results.values import Figure, MetricFacts

__all__ = [
    "BehaviourResult",
    "BothFigures",
    "BeforeAndAfter",
    "DiagnosisResult",
    "ExpressionFound",
    "FrozenCircuit",
    "HeadChanged",
    "InsideCircuit",
    "JudgedAssertion",
    "Recast",
    "RecoveryFound",
    "RediscoveredCircuit",
    "RestoringSet",
    "RoleChanged",
    "WeakestRole",
]


class BehaviourResult(Part):
    """The answer metric on the baseline, the model and the corrupted checkpoint, and the share that is left."""

    before: Figure
    after: Figure
    retained: Figure
    corrupted: Figure | None = None


class BeforeAndAfter(Part):
    """A figure on the baseline and on the model."""

    before: Figure
    after: Figure


class BothFigures(Part):
    """A figure on the baseline, and on the model where it could be read."""

    baseline: Figure
    model: Figure | None = None


class HeadChanged(Part):
    """One head of the baseline's circuit.

    Attributes:
        kind: `intact`, `silenced`, `sign flipped` and so on.
        before, after, change: its effect, in the unit of the metric.
        looks: attention between its role's positions; None for roles without such positions.
        copies: its copy score; None where its role does not copy.
    """

    kind: str
    before: Figure
    after: Figure
    change: Figure
    looks: BeforeAndAfter | None = None
    copies: BeforeAndAfter | None = None


class RoleChanged(Part):
    """A role: the share of its effect that is left, and its heads by name.

    Attributes:
        kept: what is left of it, in words.
        weaker: whether a quarter of the effect or more is certainly gone.
        works: whether half of the effect is certainly there, and three quarters are by its mean.
        asleep: whether the role is about what its heads would do if others were knocked out; no verdict rests on it.
    """

    retained: Figure
    kept: str
    weaker: bool
    works: bool
    asleep: bool
    heads: dict[str, HeadChanged]


class InsideCircuit(Part):
    """The share of the change of all heads that is in the circuit, in random heads, and the difference."""

    circuit: Figure
    random: Figure
    more: Figure


class RestoringSet(Part):
    """Components of the baseline, and the share of the loss that they restore together."""

    components: tuple[str, ...]
    healed: Figure


class ExpressionFound(Part):
    """The components whose outputs, taken from the baseline, restore the behaviour."""

    through: tuple[str, ...]
    healed: Figure
    outputs_heal: dict[str, Figure]
    outputs_break: dict[str, Figure]
    patterns_heal: dict[str, Figure]


class WeakestRole(Part):
    """The role that keeps the smallest share of its effect, and that share in words."""

    role: str
    retained: Figure
    kept: str


class FrozenCircuit(Part):
    """The baseline's circuit: how many heads it has, and its faithfulness on both models."""

    size: int
    faithfulness: BothFigures


class Recast(Part):
    """A head's role in the baseline's circuit and in the rediscovered one."""

    was: str
    now: str


class RediscoveredCircuit(Part):
    """The circuit rediscovered on the model.

    Attributes:
        reason: why none was found; then only `prompts` has a value.
        kept, gained, lost: heads that both circuits have, only the new one, and only the baseline's.
    """

    prompts: int
    reason: str | None = None
    roles: dict[str, tuple[str, ...]] | None = None
    faithfulness: Figure | None = None
    jaccard: float | None = None
    kept: tuple[str, ...] | None = None
    gained: tuple[str, ...] | None = None
    lost: tuple[str, ...] | None = None
    recast: dict[str, Recast] | None = None


class RecoveryFound(Part):
    """How much of the behaviour is recovered, and by which heads.

    Attributes:
        how: RECOVERED, BYPASSED, PARTIAL or NOT RECOVERED.
        alike: rank correlation of the heads' effects with the baseline's; no verdict rests on it.
        knocked_out: what resampling the heads that write the answer costs.
        carriers: heads outside of these that now carry more to the logits.
    """

    how: str
    share: Figure
    alike: float | None
    weakest_role: WeakestRole | None
    knocked_out: BothFigures
    carriers: dict[str, BeforeAndAfter]
    frozen: FrozenCircuit | None = None
    rediscovered: RediscoveredCircuit | None = None


class JudgedAssertion(Part):
    """The verdict of an assertion, and the recovered share of what was lost of its reading."""

    verdict: str
    recovered: Figure | None = None
    reason: str | None = None


class DiagnosisResult(Result):
    """What broke in a checkpoint compared with its baseline, and whether it recovered.

    Attributes:
        settings: the task, a hash of its tokens, and the identity of each checkpoint.
        metric: of the task; effects are in its unit.
        prompts: how many each part of the diagnosis read.
        origin: LOCALIZED, DIFFUSE or UNCHANGED; null where the baseline is a record, without weights.
        not_searched: why no origin was searched for, where `origin` is null.
        parts: how many components the model has; null where `origin` is.
        components: the set of components whose weights restore the behaviour, and `healed`, the share.
        healed_by_random: the share that matched random sets restore.
        changed: components whose weights differ from the baseline's.
        breaks: the share of the loss that one changed component alone brings to the baseline.
        curve: sets that restore, the smallest first.
        groups: what all heads, all MLPs and so on restore together.
        roles_not_compared: roles of the circuit that were left out, each with the reason.
        recovery_not_told: why recovery is not reported though there is a corrupted checkpoint.
    """

    kind: Literal["diagnosis"] = "diagnosis"
    model: str
    baseline: str
    corrupted: str | None
    circuit: str
    task: str
    settings: dict[str, Any]
    prompts: dict[str, int]
    metric: MetricFacts
    verdict: str
    why: str
    behaviour: BehaviourResult
    settings_changed: tuple[str, ...]
    notes: tuple[str, ...]
    origin: str | None
    not_searched: str | None = None
    parts: int | None
    components: tuple[str, ...]
    healed: Figure | None
    healed_by_random: Figure | None
    changed: tuple[str, ...]
    curve: tuple[RestoringSet, ...]
    breaks: dict[str, Figure]
    groups: dict[str, Figure]
    roles: dict[str, RoleChanged]
    roles_not_compared: dict[str, str]
    inside_the_circuit: InsideCircuit | None
    expressed: ExpressionFound | None
    recovery: RecoveryFound | None
    recovery_not_told: str | None
    assertions: dict[str, JudgedAssertion]
