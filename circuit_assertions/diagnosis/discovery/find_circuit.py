"""Find which heads have which role: behaviour first, then the chain, its stability, and the circuit's faithfulness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from circuit_assertions.assertions.chains import Chain, Role, chain_for
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.discovery.behaviour import with_enough_prompts
from circuit_assertions.diagnosis.discovery.follow_chain import follow
from circuit_assertions.diagnosis.discovery.followed import Followed
from circuit_assertions.diagnosis.discovery.mlps import PlacedMlp, find_mlps
from circuit_assertions.diagnosis.discovery.thresholds import Proposal, not_proposed, propose
from circuit_assertions.diagnosis.errors import DiagnosisError, NoCircuitError, UndecidedError
from circuit_assertions.diagnosis.view import View, check_enough
from circuit_assertions.heads import Head
from circuit_assertions.measures.figures import Figure
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.tasks import LOGIT_DIFFERENCE, TO_PATCH, AnswerMetric, PromptSet, Task, TaskError, task_offering

if TYPE_CHECKING:
    from circuit_assertions.engine import Model

__all__ = [
    "Discovery",
    "Stability",
    "discover",
    "enough_prompts",
    "heads_of",
    "jaccard",
    "repeated_for",
]


@dataclass(frozen=True)
class Stability:
    """The same discovery on disjoint halves of the prompts, for several random splits into halves.

    Attributes:
        by_split: for each split, the (role, head) pairs that both halves found, over those that either did.
        by_role: the same for each role, the mean of the splits.
        stable_above: the mean below which a reader is warned.
    """

    by_split: tuple[float, ...]
    by_role: Mapping[str, float]
    stable_above: float = DEFAULT.stable_above

    @property
    def jaccard(self) -> float:
        """The mean of the splits."""
        return sum(self.by_split) / len(self.by_split)

    @property
    def low(self) -> bool:
        """Whether a reader should be warned."""
        return self.jaccard < self.stable_above


@dataclass(frozen=True)
class Discovery:
    """A circuit that was found, and everything that tells how far to trust it.

    Attributes:
        behaviour: the answer metric and `answer-rate`, by the measure's name.
        metric: the task's answer metric; effects are in its unit.
        kinds: the answer rate for each kind of prompt, where two of them clearly differ.
        asked: how many prompts were asked for, where more were drawn because these did not tell.
        roles: how reports show the chain's roles.
        on_repeated: on how many sequences of random tokens heads were scored; 0 where they were not.
        faithfulness: of the whole circuit, of the heads that have a role alone, and of the mean random circuit.
        settings: how it was looked for.
        policy: the thresholds that it was found with.
        mlps: the MLPs with an effect, where the chain asks for them.
        not_proposed: the roles whose effect has no threshold, because it is one on heads that no suite can name.
    """

    checkpoint: Checkpoint
    circuit: str
    model: Mapping[str, Any]
    task: Mapping[str, Any]
    behaviour: Mapping[str, Figure]
    followed: Followed
    faithfulness: Mapping[str, Figure]
    stability: Stability
    thresholds: tuple[Proposal, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    kinds: Mapping[str, Figure] = field(default_factory=dict)
    asked: int | None = None
    on_repeated: int = 0
    roles: Mapping[str, Role] = field(default_factory=dict)
    metric: AnswerMetric = LOGIT_DIFFERENCE
    policy: Policy = DEFAULT
    not_proposed: tuple[str, ...] = ()
    mlps: tuple[PlacedMlp, ...] = ()

    @property
    def everyone(self) -> tuple[Head, ...]:
        """The circuit's heads, those without a role as well."""
        return tuple(one.head for one in self.followed.placed)


def discover(
    audit: Audit,
    checkpoint: Checkpoint,
    task: Task,
    *,
    least: float | None = None,
    name: str = "circuit",
    circuit: str | None = None,
    chain: str | None = None,
    stage: Callable[[str], None] = lambda stage: None,
) -> Discovery:
    """Find the circuit of a task in a checkpoint.

    Args:
        least: the smallest effect that counts, as a share of the logit difference; default that of the audit's policy.
        name: what the circuit is called where the task has no chain, and `circuit` does not say otherwise.
        chain: the chain that is followed, by its name or its file, instead of the task's own.
        stage: told what comes next, in words.

    Raises:
        NoCircuitError: if the model does not do the task, or no head carries it.
        UndecidedError: if not even several times as many prompts as the task has tell whether it does.
        DiagnosisError: if the task has no right and wrong answers or no counterfactual prompts, or too few prompts.
        SuiteError: if the chain is unknown, not valid, or not one for this task.
        TaskError, CheckpointError, MeasuringError: if the model cannot be asked.
    """
    task = task.look_with(audit.policy.discovered_prompts)
    policy = audit.policy if least is None else audit.policy.changed(least_effect=least)
    least = policy.least_effect
    view, followed_by = View(audit, checkpoint, task), chain_for(task, name, chain)
    asked = enough_prompts(view)
    stage("behaviour")
    view, doing = with_enough_prompts(view, followed_by, stage)
    prompts = audit.prompts(view.task, checkpoint)
    repeated = repeated_for(view, followed_by)
    halved = [half for split in range(policy.stability_splits) for half in view.halves(split)]
    followed, *halves = follow(followed_by, (view, *halved), repeated, least, stage)
    everyone = heads_of(followed, least, task.answer_metric)
    stage("faithfulness, compared with random circuits")
    faithfulness = _faithfulness(view, followed, everyone)
    return Discovery(
        checkpoint=checkpoint,
        circuit=circuit or followed_by.name,
        model=_facts(audit.model(checkpoint)),
        task=prompts.settings,
        behaviour=doing.behaviour,
        followed=followed,
        faithfulness=faithfulness,
        stability=_stability(list(zip(halves[::2], halves[1::2], strict=True)), policy.stable_above),
        thresholds=tuple(propose(followed_by, followed, view, repeated, everyone)),
        settings=_settings(policy, task, followed_by),
        kinds=doing.kinds,
        asked=None if len(prompts) == len(asked) else len(asked),
        on_repeated=0 if repeated is None else len(audit.prompts(repeated.task, checkpoint)),
        metric=task.answer_metric,
        roles=followed_by.roles,
        policy=policy,
        not_proposed=not_proposed(followed_by, followed),
        mlps=find_mlps(followed_by, followed, view, least * abs(float(view.behaviour().mean()))),
    )


def _settings(policy: Policy, task: Task, chain: Chain) -> dict[str, Any]:
    """How it was looked for; a chain is named where the kind of task does not tell, a policy if it is not `default`."""
    settings: dict[str, Any] = {"least-effect": policy.least_effect, "semantics": "through-mlps", "ablation": "mean"}
    if policy.name != DEFAULT.name:
        settings["policy"] = policy.name
    told = task.circuit == chain.name or not chain.roles
    return settings if told else {"chain": chain.name, **settings}


def enough_prompts(view: View) -> PromptSet:
    """The view's prompts.

    Raises:
        DiagnosisError: if no heads can be found by them.
    """
    lacking = TO_PATCH - view.task.offers
    if lacking:
        raise DiagnosisError(f"the task has no {' and no '.join(sorted(lacking))}: nothing can be patched")
    prompts = view.audit.prompts(view.task, view.checkpoint)
    check_enough(prompts, "to find heads by", view.policy)
    return prompts


def _facts(model: Model) -> dict[str, Any]:
    return {
        **model.shape.plain(),
        "fingerprint": model.source.fingerprint,
        "dtype": str(model.source.dtype).removeprefix("torch."),
        "device": model.device.type,
    }


def heads_of(followed: Followed, least: float, metric: AnswerMetric) -> tuple[Head, ...]:
    """The heads that a chain led to.

    Raises:
        NoCircuitError: if there are none; an UndecidedError, if more prompts might find some.
    """
    if not followed.placed and followed.unclear:
        heads = ", ".join(map(str, followed.unclear))
        raise UndecidedError(
            f"undecided: no head has an effect of {least:.0%} of the {metric.called} or more that is clear of zero; "
            f"{heads} may have one: use more prompts"
        )
    if not followed.placed:
        raise NoCircuitError(f"no head carries {least:.0%} of the {metric.called} or more on a path of its own")
    return tuple(one.head for one in followed.placed)


def repeated_for(view: View, chain: Chain) -> View | None:
    """Repeated random tokens that this model can be asked for, where the chain's rules take scores of them."""
    if not any(rule.scores_on_repeated_tokens for _, rule in chain.rules):
        return None
    room = view.audit.model(view.checkpoint).layout.positions
    task = task_offering("repeat", room)
    if task is None:
        return None
    try:
        view.audit.prompts(task, view.checkpoint)
    except TaskError:
        return None
    return View(view.audit, view.checkpoint, task)


def _faithfulness(view: View, followed: Followed, everyone: tuple[Head, ...]) -> dict[str, Figure]:
    explained = tuple(one.head for one in followed.placed if one.role in followed.groups)
    apart = bool(explained) and explained != everyone
    view.plan("faithfulness-over-random", set=everyone)
    if apart:
        view.plan("faithfulness", set=explained)
    own, level = view.reading("faithfulness", set=everyone), view.level.among(3)  # circuits below
    above = view.reading("faithfulness-over-random", set=everyone)
    random_circuits = own.values - above.values
    figures = {
        "circuit": Figure.of(own, level),
        "random": Figure(float(random_circuits.mean()), own.interval(random_circuits, level)),
    }
    if apart:
        figures["roles-alone"] = Figure.of(view.reading("faithfulness", set=explained), level)
    return figures


def _stability(splits: Sequence[tuple[Followed, Followed]], stable_above: float) -> Stability:
    roles = sorted({role for halves in splits for half in halves for role, _ in half.pairs})
    return Stability(
        tuple(jaccard(first.pairs, second.pairs) for first, second in splits),
        {
            role: sum(jaccard(*(_of_role(half, role) for half in split)) for split in splits) / len(splits)
            for role in roles
        },
        stable_above,
    )


def _of_role(followed: Followed, role: str) -> frozenset[tuple[str, Head]]:
    return frozenset(pair for pair in followed.pairs if pair[0] == role)


def jaccard(first: frozenset[Any], second: frozenset[Any]) -> float:
    """What both sets hold, as a share of what either does."""
    return len(first & second) / len(first | second) if first | second else 1.0
