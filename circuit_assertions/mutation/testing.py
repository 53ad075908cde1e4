"""Judge a suite on one mutant after another, beside the undamaged model as the baseline.

The model is opened twice: one copy stays as it is and is the baseline, the other takes the damage of one mutant at a
time. So every measure, also those that run two models together, sees two models as in any audit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Judgement
from circuit_assertions.assertions.runner import NotApplicable, SuiteRunner
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.comparing_measures import ComparingMeasures
from circuit_assertions.diagnosis.suite_verdicts import Answer, Bound, answers_of
from circuit_assertions.engine import Model
from circuit_assertions.engine.damaging import CannotDamageError, Noise, damaged, damages_of
from circuit_assertions.measures import Reading
from circuit_assertions.measures.figures import Array, Figure, number, share_of
from circuit_assertions.mutation.errors import MutationError
from circuit_assertions.mutation.kinds import STRENGTH, Mutant
from circuit_assertions.request import Request
from circuit_assertions.results import Figure as FigureResult
from circuit_assertions.results.mutation import Found, LeftOut, MutantResult, NotMade
from circuit_assertions.tasks import Task
from circuit_assertions.verdict_words import Outcome

__all__ = ["MutantTest", "Undamaged", "judge_undamaged"]

_ANSWERS = frozenset({"answer", "wrong-answer"})
_SAME = 1e-4  # of the largest value: what float32 may leave of a change that leaves the function as it is
_DIGITS = 6  # significant ones of what is kept: sums in another order change the seventh

Assertions = Mapping[str, Bound]


@dataclass(frozen=True)
class Undamaged:
    """A model and the suites that hold on it.

    Attributes:
        assertions: those that mutants are tested with, by name.
        readings: what they read of the undamaged model.
        left_out: the others.
        behaviour: the answer metric by task [prompts].
    """

    checkpoint: Checkpoint
    assertions: Assertions
    readings: Mapping[str, Reading]
    left_out: tuple[LeftOut, ...]
    behaviour: Mapping[str, tuple[Task, Array]]


def judge_undamaged(audit: Audit, assertions: Assertions) -> Undamaged:
    """Judge suites on the undamaged model, which is the audit's baseline, and see which assertions can be tested.

    Raises:
        CheckpointError: if it cannot be opened.
        MutationError: if no assertion holds.
    """
    checkpoint = audit.baseline
    assert checkpoint is not None
    audit.model(checkpoint)
    runner = _runner(audit)
    kept: dict[str, Bound] = {}
    readings: dict[str, Reading] = {}
    left_out: list[LeftOut] = []
    for name, (outcome, judged) in _judged(runner, checkpoint, assertions).items():
        waiver = assertions[name].assertion.waive
        if isinstance(judged, str) or outcome != Outcome.HELD:
            why = judged if isinstance(judged, str) else _read(judged)
            left_out.append(LeftOut(name=name, outcome=outcome, reason=why))
        elif waiver is not None and not waiver.expired():
            reason = f"waived until {waiver.until}, so that it fails no gate: {waiver.reason}"
            left_out.append(LeftOut(name=name, outcome=outcome, reason=reason))
        else:
            kept[name], readings[name] = assertions[name], judged.reading
    if not kept:
        reasons = "; ".join(f"{one.name} is {one.outcome} ({one.reason})" for one in left_out[:3])
        raise MutationError(
            f"no assertion holds on the undamaged model {checkpoint}, so no damage can break one: {reasons}; "
            f"give a model on which the suite passes"
        )
    return Undamaged(checkpoint, kept, readings, tuple(left_out), _behaviours(audit, kept))


def _read(judged: Judgement) -> str:
    row = judged.rows[0]
    return f"{row.name} {number(row.mean)} {judged.reading.unit}, expected {judged.expected}".lstrip()


def _behaviours(audit: Audit, assertions: Assertions) -> dict[str, tuple[Task, Array]]:
    """The answer metric of the undamaged model by task; tasks that differ in number or seed of prompts count once."""
    assert audit.baseline is not None
    found: dict[str, tuple[Task, Array]] = {}
    seen = []
    for bound in assertions.values():
        for name, task in bound.suite.suite.tasks.items():
            same = task.model_dump(exclude={"prompts", "seed"})
            if task.offers >= _ANSWERS and same not in seen:
                seen.append(same)
                values = _metric(audit, task, audit.baseline)
                if values is not None:
                    found[name if name not in found else f"{bound.suite.file.name}::{name}"] = task, values
    return found


def _metric(audit: Audit, task: Task, checkpoint: Checkpoint) -> Array | None:
    """The task's answer metric [prompts]; None where it cannot be read."""
    try:
        return audit.read(_metric_of(task), checkpoint).values
    except CircuitAssertionsError:  # reported of the assertions that need the task
        return None


def _metric_of(task: Task) -> Request:
    return Request(task.answer_metric.name, task)


def _runner(audit: Audit) -> SuiteRunner:
    assert audit.baseline is not None
    return SuiteRunner(audit, audit.baseline, compare=ComparingMeasures(audit, audit.baseline, tell=audit.progress))


def _judged(
    runner: SuiteRunner, checkpoint: Checkpoint, assertions: Assertions
) -> dict[str, tuple[Outcome, Judgement | str]]:
    """The outcome of each assertion, with its judgement or the reason why there is none."""
    return {name: _outcome(answer) for name, answer in answers_of(runner, checkpoint, assertions).items()}


def _outcome(answer: Answer) -> tuple[Outcome, Judgement | str]:
    if isinstance(answer, CircuitAssertionsError):
        return Outcome.ERROR, str(answer)
    if isinstance(answer, NotApplicable):
        return Outcome.SKIPPED, answer.reason
    return Outcome.of(answer.verdict.value), answer


@dataclass
class MutantTest:
    """Tests a suite with mutants.

    Attributes:
        model: a copy of the undamaged model that takes the damage. It is restored bit for bit after each mutant.
        strength: standard deviation of noise, in that of the weights that it is added to.
        seed: of the noise.
    """

    audit: Audit
    undamaged: Undamaged
    model: Model
    seed: int = 0
    strength: float = STRENGTH

    def run(
        self, mutants: Sequence[Mutant], tell: Callable[[Mutant, int], None] = lambda mutant, done: None
    ) -> Iterator[MutantResult | NotMade]:
        """Test one mutant after another.

        Args:
            tell: which mutant comes next, and how many there were before it.
        """
        for done, mutant in enumerate(mutants):
            tell(mutant, done)
            yield self.test(mutant)

    def test(self, mutant: Mutant) -> MutantResult | NotMade:
        """Damage the copy, judge every assertion on it, and restore it."""
        name, kind = str(mutant), mutant.kind
        noise = Noise(self.strength, self.seed, name)
        try:
            replaced = damages_of(self.model.layout, kind.name, mutant.components, noise)
        except CannotDamageError as error:
            return NotMade(name=name, kind=kind.name, reason=str(error))
        with damaged(replaced) as differs:
            if not differs:
                return NotMade(name=name, kind=kind.name, reason="it changes no bit of these weights")
            checkpoint = self._adopt(name)
            try:
                return self._judge(mutant, checkpoint)
            finally:
                self.audit.forget(checkpoint)

    def _adopt(self, name: str) -> Checkpoint:
        """The copy as a checkpoint of its own in the audit, which remembers readings by checkpoint."""
        base, source = self.undamaged.checkpoint, self.model.source
        called = f"{base} with {name}"
        checkpoint = Checkpoint(called, hub_id=called)
        mutated = replace(source, checkpoint=checkpoint, fingerprint=f"{source.fingerprint}+{name}")
        self.audit.adopt(checkpoint, Model(mutated, self.model.limits, self.model.runs_end), like=base)
        return checkpoint

    def _judge(self, mutant: Mutant, checkpoint: Checkpoint) -> MutantResult | NotMade:
        before = self.undamaged.behaviour
        self.audit.plan(checkpoint, [_metric_of(task) for task, _ in before.values()])
        judged = _judged(_runner(self.audit), checkpoint, self.undamaged.assertions)
        after = {name: _metric(self.audit, task, checkpoint) for name, (task, _) in before.items()}
        if mutant.kind.exact and any(
            one is not None and np.abs(one - before[name][1]).max() > _SAME * np.abs(before[name][1]).max()
            for name, one in after.items()
        ):
            reason = "the model norms or clamps its values, so that rescaling them changes what it computes"
            return NotMade(name=str(mutant), kind=mutant.kind.name, reason=reason)
        kept = {
            name: _rounded(Figure.of_values(share_of(one, before[name][1])))
            for name, one in after.items()
            # Of what the model does not do, there is no share.
            if one is not None and Figure.of_values(before[name][1]).interval.low > 0
        }
        moved = {
            name: change
            for name, (_, one) in judged.items()
            if not isinstance(one, str) and (change := _change(one.reading, self.undamaged.readings[name])) is not None
        }
        outcomes = [outcome for outcome, _ in judged.values()]
        complete = len(moved) == len(judged) and all(one is not None for one in after.values())
        changes = [*moved.values(), *(abs(one.mean - 1) for one in kept.values())]
        return MutantResult(
            name=str(mutant),
            kind=mutant.kind.name,
            components=tuple(map(str, mutant.components)),
            damage=mutant.kind.damage,
            outcomes={name: outcome.value for name, (outcome, _) in judged.items()},
            reasons={name: one for name, (_, one) in judged.items() if isinstance(one, str)},
            behaviour=kept,
            moved=moved,
            found=_found(
                outcomes,
                mutant.kind.damage,
                equivalent=complete and max(changes) <= self.audit.policy.negligible_effect,
            ),
        )


def _found(outcomes: Sequence[Outcome], damage: bool, equivalent: bool) -> Found:
    if Outcome.BROKEN in outcomes:
        return "caught"
    if Outcome.UNRESOLVED in outcomes:
        return "unresolved"
    return "quiet" if not damage else "equivalent" if equivalent else "survived"


def _change(now: Reading, then: Reading) -> float | None:
    """The largest change of a column's mean, as a share of the largest mean on the undamaged model.

    Where prompts grow, one of the two may have taken more of them: the change is that of the prompts that both have.
    None where the two readings have other columns.
    """
    if now.components != then.components:
        return None
    both = min(now.prompts, then.prompts)
    before, after = (np.atleast_1d(one.values[:both].mean(axis=0)) for one in (then, now))  # [columns]
    scale, change = float(np.abs(before).max()), float(np.abs(after - before).max())
    if scale <= then.rounding:
        return 0.0 if change <= then.rounding else None
    return _shorter(change / scale)


def _rounded(figure: Figure) -> FigureResult:
    return FigureResult(
        mean=_shorter(figure.mean), low=_shorter(figure.interval.low), high=_shorter(figure.interval.high)
    )


def _shorter(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
