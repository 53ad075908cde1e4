"""The assertions of suites on one of several checkpoints: their verdicts, and how much of a loss is recovered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Circuit, Judgement, LoadedSuite
from circuit_assertions.assertions.runner import NotApplicable, PlannedAssertion, SuiteRunner
from circuit_assertions.assertions.schema import Assertion
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.comparing_measures import ComparingMeasures
from circuit_assertions.engine import LimitError
from circuit_assertions.measures.figures import Figure
from circuit_assertions.places import shown_path
from circuit_assertions.unexpected import tell_unexpected
from circuit_assertions.verdict_words import Outcome

__all__ = ["Answer", "Bound", "Judged", "Suites", "answers_of", "judge_all", "named", "runner_for"]

Answer = Judgement | NotApplicable | CircuitAssertionsError  # the last where an assertion cannot be judged
Suites = Sequence[tuple[LoadedSuite, tuple[Circuit, ...]]]  # each with the circuits that may bind its roles


@dataclass(frozen=True)
class Bound:
    """An assertion, its suite, and the circuits that may bind its roles."""

    suite: LoadedSuite
    assertion: Assertion
    circuits: tuple[Circuit, ...]


@dataclass(frozen=True)
class Judged:
    """The outcome of an assertion.

    Attributes:
        verdict: HELD, BROKEN, UNRESOLVED, SKIPPED or ERROR.
        reason: why it was skipped, or could not be judged.
        recovered: the recovered share of what the corrupted checkpoint had lost of its reading; None where there is no
            such checkpoint, or it has lost nothing.
    """

    verdict: str
    reason: str = ""
    recovered: Figure | None = None


def named(suites: Suites) -> dict[str, Bound]:
    """Every assertion by its id, with its suite's file in front where there are several suites."""
    in_front = {suite.file: f"{shown_path(suite.file)}::" if len(suites) > 1 else "" for suite, _ in suites}
    return {
        f"{in_front[suite.file]}{assertion.id}": Bound(suite, assertion, circuits)
        for suite, circuits in suites
        for assertion in suite.suite.assertions
    }


def runner_for(
    audit: Audit, baseline: Checkpoint, corrupted: Checkpoint | None, circuit: Circuit, chain: str | None = None
) -> SuiteRunner:
    """What judges assertions beside a baseline, and beside a corrupted checkpoint where there is one.

    Args:
        circuit: the baseline's.
        chain: the chain that knows the roles of `circuit`, by its name or its file; default that of each task.
    """
    chains = {} if chain is None else {circuit.circuit: chain}
    compare = ComparingMeasures(audit, baseline, corrupted, audit.progress, chains)
    return SuiteRunner(audit, baseline, compare=compare, corrupted=corrupted)


def answers_of(runner: SuiteRunner, checkpoint: Checkpoint, assertions: Mapping[str, Bound]) -> dict[str, Answer]:
    """Put every assertion to a checkpoint. One that cannot be judged does not keep the others from it."""
    asked = {
        name: PlannedAssertion(one.suite, one.assertion, checkpoint, one.circuits) for name, one in assertions.items()
    }
    runner.announce(asked.values())
    return {name: _answer(runner, one) for name, one in asked.items()}


def _answer(runner: SuiteRunner, asked: PlannedAssertion) -> Answer:
    try:
        with tell_unexpected(f"{asked.assertion.id} cannot be judged on {asked.checkpoint}"):
            return runner.judge(asked)
    except CircuitAssertionsError as error:
        return error


def judge_all(runner: SuiteRunner, checkpoint: Checkpoint, assertions: Mapping[str, Bound]) -> dict[str, Judged]:
    """The outcome of every assertion on a checkpoint."""
    return {name: _judged(answer) for name, answer in answers_of(runner, checkpoint, assertions).items()}


def _judged(answer: Answer) -> Judged:
    if isinstance(answer, LimitError):  # told without the measure, so that one limit is one reason
        return Judged(Outcome.ERROR, f'limit "{answer.limit.name}" of {answer.checkpoint}: {answer.limit.reason}')
    if isinstance(answer, CircuitAssertionsError):
        return Judged(Outcome.ERROR, str(answer))
    if isinstance(answer, NotApplicable):
        return Judged(Outcome.SKIPPED, answer.reason)
    return Judged(answer.verdict.value, recovered=answer.recovered)
