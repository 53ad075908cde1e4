"""A training run beside its baseline: behaviour, roles and verdicts of checkpoint after checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Circuit
from circuit_assertions.assertions.chains import Chain, chain_for
from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, CheckpointError
from circuit_assertions.diagnosis import levels
from circuit_assertions.diagnosis.bisecting import bisect
from circuit_assertions.diagnosis.errors import DiagnosisError
from circuit_assertions.diagnosis.function import compare_functions
from circuit_assertions.diagnosis.lenses import behaviour_before
from circuit_assertions.diagnosis.overall_verdict import Behaviour, overall
from circuit_assertions.diagnosis.prompt_counts import fewer
from circuit_assertions.diagnosis.sides import check_fit
from circuit_assertions.diagnosis.suite_verdicts import Bound, Suites, judge_all, named, runner_for
from circuit_assertions.diagnosis.view import View, check_enough
from circuit_assertions.measures.figures import Figure, share_of
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.tasks import LOGIT_DIFFERENCE, TO_PATCH, AnswerMetric, Task
from circuit_assertions.unexpected import tell_unexpected
from circuit_assertions.verdict_words import Overall

__all__ = ["Step", "Trajectory", "check_run", "follow"]

Tell = Callable[[Checkpoint, int], None]


@dataclass(frozen=True)
class Step:
    """One checkpoint of the run.

    Attributes:
        place: which of the run's checkpoints it is, from 0.
        behaviour: its answer metric; None where the checkpoint could not be read.
        retained: the share of the baseline's answer metric that is left.
        roles: the share of the baseline's effect that is left, by role.
        not_compared: the circuit's other roles, each with the reason.
        verdicts: HELD, BROKEN, UNRESOLVED, SKIPPED or ERROR, by assertion.
        reasons: why an assertion was skipped, or could not be judged.
        recovered: the recovered share of what the corrupted checkpoint had lost, by assertion, where it was lost.
        problem: why the checkpoint could not be read.
        overall, why: the verdict that a diagnosis gives it, and what that rests on; empty where it was not read.
    """

    place: int
    checkpoint: Checkpoint
    behaviour: Figure | None = None
    retained: Figure | None = None
    roles: Mapping[str, Figure] = field(default_factory=dict)
    verdicts: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    recovered: Mapping[str, Figure] = field(default_factory=dict)
    problem: str = ""
    not_compared: Mapping[str, str] = field(default_factory=dict)
    overall: Overall | Literal[""] = ""
    why: str = ""


@dataclass(frozen=True)
class Trajectory:
    """A behaviour and its circuit along a training run.

    Attributes:
        before: the baseline's answer metric.
        metric: the task's answer metric.
        steps: the checkpoints that were looked at, in the run's order.
        assertions: the names by which they stand in the steps.
        bisected: whether only those checkpoints were looked at that bisection asked for.
        colours: those of roles that have one, by name.
        prompts: by how many prompts behaviour and roles were read, and how many the task has; None if unknown.
        policy: the thresholds that it was judged with.
    """

    run: tuple[Checkpoint, ...]
    baseline: Checkpoint
    task: str
    circuit: str
    before: Figure
    steps: tuple[Step, ...]
    assertions: tuple[str, ...]
    bisected: bool
    prompts: tuple[int, int] | None = None
    metric: AnswerMetric = LOGIT_DIFFERENCE
    colours: Mapping[str, str] = field(default_factory=dict)
    policy: Policy = DEFAULT

    def seen(self, assertion: str) -> dict[int, str]:
        """An assertion's verdicts by place, of the checkpoints that could be read."""
        return {step.place: step.verdicts[assertion] for step in self.steps if not step.problem}

    @property
    def audited(self) -> int:
        """How many checkpoints were read."""
        return sum(not step.problem for step in self.steps)


def check_run(
    audit: Audit,
    run: Sequence[Checkpoint],
    baseline: Checkpoint,
    task: Task,
    corrupted: Checkpoint | None = None,
    every_prompt: bool = False,
) -> None:
    """Check that a run and its baseline can be compared, before any work.

    Only the first checkpoint that can be read is asked: the others are met when their turn comes.

    Raises:
        CheckpointError: if the baseline or `corrupted` cannot be opened, or no checkpoint of the run can.
        DiagnosisError: if they have other shapes, or the task nothing to patch or too few prompts.
        TaskError: if their tokenizers differ.
    """
    if not task.offers >= TO_PATCH:
        raise DiagnosisError("a trajectory needs a task with right and wrong answers and counterfactual prompts")
    check_fit(audit, baseline, *([corrupted] if corrupted else []))
    problems = []
    for checkpoint in run:
        try:
            audit.model(checkpoint)
        except CheckpointError as error:
            problems.append(error)
        else:
            check_fit(audit, baseline, checkpoint)
            check_enough(
                audit.prompts(_read(audit, task, every_prompt), checkpoint), "to follow a run by", audit.policy
            )
            return
    raise CheckpointError(f"no checkpoint of {run[0].given} can be opened: {problems[0]}")


def follow(
    audit: Audit,
    run: Sequence[Checkpoint],
    baseline: Checkpoint,
    task: Task,
    circuit: Circuit,
    suites: Suites,
    *,
    called: str = "",
    corrupted: Checkpoint | None = None,
    bisecting: bool = False,
    every_prompt: bool = False,
    chain: str | None = None,
    tell: Tell = lambda checkpoint, done: None,
) -> Trajectory:
    """Judge every checkpoint of a run, or those that bisection asks for. One is open at a time beside the given ones.

    Args:
        circuit: the baseline's.
        suites: each with the circuits that may bind its roles.
        called: the task's name.
        corrupted: a known-bad checkpoint, where assertions about recovery are to be judged.
        every_prompt: whether behaviour and roles are read by all prompts of the task; else by at most as many as the
            audit's policy says.
        chain: the chain that knows the roles, by its name or its file; default the task's.
        tell: which checkpoint comes next, and how many there were before it.

    Raises:
        DiagnosisError: if the baseline does not do the task.
    """
    runner = runner_for(audit, baseline, corrupted, circuit, chain)
    known = chain_for(task, circuit.circuit, chain)
    follower = _Follower(View(audit, baseline, _read(audit, task, every_prompt)), circuit, known, runner, named(suites))
    read = len(audit.prompts(follower.then.task, baseline))
    level = levels.of_roles(audit.policy, circuit.roles)
    before = Figure.of_values(behaviour_before(follower.then, level), level)
    steps = follower.steps(run, bisecting, tell)
    return Trajectory(
        run=tuple(run),
        baseline=baseline,
        task=called or task.kind,
        circuit=circuit.circuit,
        before=before,
        steps=steps,
        assertions=tuple(follower.assertions),
        bisected=bisecting,
        prompts=(read, task.count),
        metric=task.answer_metric,
        colours=known.colours,
        policy=audit.policy,
    )


def _read(audit: Audit, task: Task, every_prompt: bool) -> Task:
    """The task with the prompts that behaviour and roles are read by."""
    return task if every_prompt else fewer(task, audit.policy.compared_prompts)


@dataclass(frozen=True)
class _Follower:
    """What is put to every checkpoint; `then` is the baseline's side."""

    then: View
    circuit: Circuit
    chain: Chain
    runner: SuiteRunner
    assertions: Mapping[str, Bound]

    def steps(self, run: Sequence[Checkpoint], bisecting: bool, tell: Tell) -> tuple[Step, ...]:
        """Look at every checkpoint, or at those that bisection asks for; in the run's order."""
        steps: dict[int, Step] = {}

        def judge(place: int) -> Mapping[str, str] | None:
            tell(run[place], len(steps))
            steps[place] = step = self.step(place, run[place])
            return None if step.problem else step.verdicts

        if bisecting:
            bisect(len(run), judge)
        else:
            for place in range(len(run)):
                judge(place)
        return tuple(steps[place] for place in sorted(steps))

    def step(self, place: int, checkpoint: Checkpoint) -> Step:
        """Look at one checkpoint, and close it. Its intervals are those of a diagnosis, whatever else is in the run."""
        then = self.then
        now = View(then.audit, checkpoint, then.task)
        try:
            with tell_unexpected(f"{checkpoint} cannot be measured"):
                check_fit(then.audit, then.checkpoint, checkpoint)
                function = compare_functions(self.chain, self.circuit.roles, then, now)
                before, after = (view.behaviour() for view in (then, now))
                judged = judge_all(self.runner, checkpoint, self.assertions)
        except CircuitAssertionsError as error:
            return Step(place, checkpoint, problem=str(error))
        finally:
            self.runner.forget(checkpoint)
        level = levels.of_roles(now.policy, self.circuit.roles)
        shown = (Figure.of_values(values, level) for values in (before, after, share_of(after, before)))
        behaviour = Behaviour(*shown)
        word, why = overall(behaviour, function, now.policy)
        return Step(
            place,
            checkpoint,
            behaviour=behaviour.after,
            retained=behaviour.retained,
            overall=word,
            why=why,
            roles={role.role: role.retained for role in function.roles},
            not_compared=function.not_compared,
            verdicts={name: one.verdict for name, one in judged.items()},
            reasons={name: one.reason for name, one in judged.items() if one.reason},
            recovered={name: one.recovered for name, one in judged.items() if one.recovered is not None},
        )
