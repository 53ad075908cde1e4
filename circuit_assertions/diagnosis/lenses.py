"""A diagnosis: what a checkpoint does beside its baseline, through three lenses that are never mixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from circuit_assertions.assertions.chains import Chain, chain_for
from circuit_assertions.assertions.circuits import everyone_in
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.components import Mlp
from circuit_assertions.diagnosis import levels
from circuit_assertions.diagnosis.asked import compared_task
from circuit_assertions.diagnosis.errors import DiagnosisError
from circuit_assertions.diagnosis.expression import Expression, find_expression
from circuit_assertions.diagnosis.function import Function, announce, compare_functions
from circuit_assertions.diagnosis.origin import Origin, find_origin
from circuit_assertions.diagnosis.overall_verdict import Behaviour, overall
from circuit_assertions.diagnosis.prompt_counts import prompts_read
from circuit_assertions.diagnosis.recovery import Recovery, judge_recovery
from circuit_assertions.diagnosis.rediscovery import rediscover
from circuit_assertions.diagnosis.sides import Sides, check_fit
from circuit_assertions.diagnosis.suite_verdicts import Judged
from circuit_assertions.diagnosis.view import View
from circuit_assertions.heads import Head
from circuit_assertions.measures.figures import Array, Figure, has_lost, share_of, what_is_lost
from circuit_assertions.measures.intervals import Level
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.recorded import recorded_settings
from circuit_assertions.tasks import LOGIT_DIFFERENCE, AnswerMetric, PromptSet, Task
from circuit_assertions.verdict_words import SOMETHING_LOST, OriginVerdict, Overall

__all__ = ["Behaviour", "Diagnosis", "behaviour_before", "check_fit", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """A behaviour and its circuit, compared with the baseline.

    Attributes:
        why: what the verdict rests on, in a few words.
        not_searched: why there was no search for an origin: the baseline's weights are not given. Then `origin` is
            empty.
        origin, expression: the second is None where nothing is lost that could have an origin.
        not_told: why recovery is not reported though there is a corrupted checkpoint: it does not fit, or cannot be
            read.
        assertions: the judged assertions of a suite, if one was run on the model as well.
        settings_changed: how config.json differs from the baseline's in what changes the model's function.
        notes: for the report: how the model was read.
        prompts: how many prompts each part read, by its name in `numbers.PARTS`.
        metric: the task's answer metric; effects are in its unit.
        policy: the thresholds that it was made with.
    """

    model: Checkpoint
    baseline: Checkpoint
    corrupted: Checkpoint | None
    task: str
    circuit: str
    verdict: Overall
    why: str
    behaviour: Behaviour
    function: Function
    origin: Origin
    expression: Expression | None
    recovery: Recovery | None
    settings: Mapping[str, Any]
    assertions: Mapping[str, Judged] = field(default_factory=dict)
    not_told: str = ""
    settings_changed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    prompts: Mapping[str, int] = field(default_factory=dict)
    metric: AnswerMetric = LOGIT_DIFFERENCE
    policy: Policy = DEFAULT
    not_searched: str = ""


def diagnose(
    audit: Audit,
    model: Checkpoint,
    baseline: Checkpoint,
    task: Task,
    roles: Mapping[str, tuple[Head, ...]],
    *,
    circuit: str = "circuit",
    called: str = "",
    corrupted: Checkpoint | None = None,
    insist: bool = True,
    every_prompt: bool = False,
    chain: str | None = None,
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Diagnosis:
    """Diagnose a model beside its baseline.

    Args:
        roles: the baseline's circuit.
        circuit, called: names of the circuit and the task.
        every_prompt: whether every part reads all prompts of the task, which is for numbers that somebody asked for;
            else at most as many as the audit's policy says.
        chain: the chain that knows the roles, by its name or its file; default the task's.
        insist: whether a corrupted checkpoint that cannot be read or does not fit is an error; else it is left out.
        tell: what is being done, and how far it is.

    Raises:
        CheckpointError: if one of them cannot be opened.
        DiagnosisError: if the checkpoints have other shapes, or the task nothing to patch or too few prompts.
        TaskError: if their tokenizers differ.
    """
    task, asked = compared_task(task, audit.policy, every_prompt)
    sides = Sides.of(audit, model, baseline, corrupted, asked, insist)
    found = _compare_sides(sides, chain_for(task, circuit, chain), roles, task, every_prompt, tell)
    return replace(found, corrupted=corrupted, task=called or task.kind, circuit=circuit)


def _compare_sides(
    sides: Sides,
    chain: Chain,
    roles: Mapping[str, tuple[Head, ...]],
    task: Task,
    every_prompt: bool,
    tell: Callable[[str, int, int], None],
) -> Diagnosis:
    """The diagnosis, under the names that the kinds of task and circuit have."""
    audit, model, baseline = sides.now.audit, sides.now.checkpoint, sides.then.checkpoint
    policy = audit.policy
    announce(chain, roles, sides.then, sides.now)
    behaviour = _behaviour(sides, levels.of_roles(policy, roles))
    function = compare_functions(chain, roles, sides.then, sides.now)
    verdict, why = overall(behaviour, function, policy)
    prompts = audit.prompts(sides.now.task, model)
    if audit.recorded is not None and baseline == audit.recorded.checkpoint:
        return _by_function_alone(sides, chain, task, prompts, behaviour, function, (verdict, why))
    sources = audit.model(model).source, audit.model(baseline).source
    origin = find_origin(audit.model(model), audit.model(baseline), prompts, tell, verdict in SOMETHING_LOST, policy)
    some = len(prompts) if every_prompt else min(policy.expression_prompts, len(prompts))
    expression = _expression(sides, prompts, some, origin, function, tell)
    recovery = _recovery(sides, chain, roles, function, task, tell)
    return Diagnosis(
        model=model,
        baseline=baseline,
        corrupted=None if sides.worst is None else sides.worst.checkpoint,
        task=task.kind,
        circuit=chain.name,
        verdict=verdict,
        why=why,
        behaviour=behaviour,
        function=function,
        origin=origin,
        expression=expression,
        recovery=recovery,
        settings=sides.settings(prompts),
        not_told=sides.not_told or _why_nothing_came_back(sides, recovery),
        settings_changed=tuple(sources[1].function.differences(sources[0].function)),
        notes=sources[0].notes,
        prompts=prompts_read(task, len(prompts), origin, None if expression is None else some, recovery),
        metric=task.answer_metric,
        policy=policy,
    )


def _by_function_alone(
    sides: Sides,
    chain: Chain,
    task: Task,
    prompts: PromptSet,
    behaviour: Behaviour,
    function: Function,
    judged: tuple[Overall, str],
) -> Diagnosis:
    """The diagnosis compared with a record of the baseline, whose weights are not given."""
    audit, model, baseline = sides.now.audit, sides.now.checkpoint, sides.then.checkpoint
    opened, nothing = audit.opened(model), Origin(OriginVerdict.UNCHANGED, 0)
    return Diagnosis(
        model=model,
        baseline=baseline,
        corrupted=None,
        task=task.kind,
        circuit=chain.name,
        verdict=judged[0],
        why=judged[1],
        behaviour=behaviour,
        function=function,
        origin=nothing,
        expression=None,
        recovery=None,
        settings=sides.settings(prompts),
        settings_changed=recorded_settings(audit.known(baseline).fingerprint, opened.fingerprint),
        notes=opened.notes,
        prompts=prompts_read(task, len(prompts), nothing, None, None),
        metric=task.answer_metric,
        policy=audit.policy,
        not_searched="origin and expression need the baseline's weights, and only its record is given: use --baseline",
    )


def _why_nothing_came_back(sides: Sides, recovery: Recovery | None) -> str:
    """Why nothing is said of recovery, where the corrupted checkpoint has not lost enough for certain; else nothing."""
    if sides.worst is None or recovery is not None:
        return ""
    then, worst = (view.behaviour() for view in (sides.then, sides.worst))
    policy = sides.now.policy
    return "" if has_lost(then, worst, policy) else f"{sides.worst.checkpoint} {what_is_lost(then, worst, policy)}"


def behaviour_before(baseline: View, level: Level) -> Array:
    """The baseline's answer metric [prompts].

    Args:
        level: how sure it must be that it is above zero.

    Raises:
        DiagnosisError: if the baseline does not do the task itself, or that is not certain.
    """
    before = baseline.behaviour()
    figure = Figure.of_values(before, level)
    if not figure.interval.low > 0:
        told = f"its {baseline.task.answer_metric.called} is {figure}"
        if figure.interval.high > 0:
            raise DiagnosisError(
                f"undecided whether the baseline {baseline.checkpoint} does the task itself: {told}, which is not "
                f"clear of zero on {len(before)} prompts: use more prompts"
            )
        raise DiagnosisError(f"the baseline {baseline.checkpoint} does not do the task itself: {told}")
    return before


def _behaviour(sides: Sides, level: Level) -> Behaviour:
    before, after = behaviour_before(sides.then, level), sides.now.behaviour()
    return Behaviour(
        Figure.of_values(before, level),
        Figure.of_values(after, level),
        Figure.of_values(share_of(after, before), level),
        None if sides.worst is None else Figure.of_values(sides.worst.behaviour(), level),
    )


def _writers(chain: Chain, roles: Mapping[str, tuple[Head, ...]]) -> tuple[Head, ...]:
    """The heads whose role is to write the right answer; the whole circuit where no role is."""
    known = [rule.role for stage, rule in chain.rules if stage.writes_answer and rule.direction > 0]
    writing = sorted({head for role in known for head in roles.get(role, ())})
    return tuple(writing) or everyone_in(roles)


def _recovery(
    sides: Sides,
    chain: Chain,
    roles: Mapping[str, tuple[Head, ...]],
    function: Function,
    task: Task,
    tell: Callable[[str, int, int], None],
) -> Recovery | None:
    """How it came back; the circuits by all prompts that the task asks, because discovery needs many."""
    writers = _writers(chain, roles)
    if sides.worst is None or not writers:
        return None
    recovery = judge_recovery(function, writers, sides.now, sides.then, sides.worst)
    if recovery is None:
        return None
    baseline, model = (View(view.audit, view.checkpoint, task) for view in (sides.then, sides.now))
    return replace(recovery, circuits=rediscover(chain, roles, baseline, model, tell))


def _expression(
    sides: Sides,
    prompts: PromptSet,
    count: int,
    origin: Origin,
    function: Function,
    tell: Callable[[str, int, int], None],
) -> Expression | None:
    """By the first `count` prompts."""
    if origin.verdict == OriginVerdict.UNCHANGED:
        return None
    now, then, rows = sides.now, sides.then, slice(0, count)
    lost = (then.behaviour() - now.behaviour())[rows]
    some = PromptSet(prompts.prompts[rows], prompts.settings)
    model, baseline = (view.audit.model(view.checkpoint) for view in (now, then))
    suspects: list[Head | Mlp] = [one.head for one in function.heads if one.kind == "sign flipped"]
    suspects += [part for part in (origin.found.parts if origin.found else ()) if isinstance(part, (Head, Mlp))]
    return find_expression(model, baseline, some, lost, suspects, tell, now.policy)
