"""The result of a sweep: the outcome of every assertion on every checkpoint, and where it broke first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Literal

from pydantic import Field

from circuit_assertions.checkpoints import step_of
from circuit_assertions.diagnosis.bisecting import spells
from circuit_assertions.results.audit import AssertionResult, AuditResult
from circuit_assertions.results.base import Part, PolicyUsed, Result
from circuit_assertions.results.values import Figure
from circuit_assertions.verdict_words import NOT_JUDGED, Outcome

__all__ = ["FirstBroken", "SweepResult", "SweptAssertion", "SweptCheckpoint", "swept", "swept_checkpoint"]


class SweptAssertion(Part):
    """An assertion on a checkpoint.

    Attributes:
        outcome: as the gate counts it.
        figure: what was read, of the decisive row; None where nothing was judged.
        row: which row that is, `L9H9`.
        reason: why it was not judged.
    """

    outcome: str
    figure: Figure | None = None
    row: str = ""
    unit: str = ""
    reason: str = ""

    @classmethod
    def of(cls, line: AssertionResult) -> SweptAssertion:
        """What is told of an assertion in a comparison."""
        row = line.rows[0] if line.rows else None
        return cls(
            outcome=line.counted,
            figure=None if row is None else row.figure,
            row="" if row is None else row.name,
            unit="" if line.reading is None else line.reading.unit,
            reason=line.reason,
        )


class SweptCheckpoint(Part):
    """A checkpoint of the sweep.

    Attributes:
        run: the folder of its training run; empty where it is no step of one.
        step: None where its name has none.
        problem: why it could not be read, or was not looked at; then it has no assertions.
        looked_at: whether it was audited; bisection leaves checkpoints out.
        files: the result files, one for each suite.
        passed: whether the gate of every suite passes.
        assertions: by name, as in `SweepResult.assertions`.
    """

    checkpoint: str
    run: str = ""
    step: int | None = None
    problem: str = ""
    looked_at: bool = True
    files: tuple[str, ...] = ()
    passed: bool = False
    assertions: dict[str, SweptAssertion] = Field(default_factory=dict)

    def count(self, outcome: str) -> int:
        """How many assertions have this outcome."""
        return sum(one.outcome == outcome for one in self.assertions.values())


class FirstBroken(Part):
    """Where an assertion broke along a training run.

    Attributes:
        held_before: the last checkpoint before it where it held; None where there is none.
        broke: the first checkpoint where it was broken.
        came_back: the first checkpoint after it where it held again; None where it did not.
    """

    run: str
    assertion: str
    held_before: str | None
    broke: str
    came_back: str | None


class SweepResult(Result):
    """A sweep over many checkpoints.

    Attributes:
        engine: what did the work, in words.
        assertions: the names of all assertions, suite by suite.
        checkpoints: in the order of the sweep.
        first_broken: of every run and assertion that broke there.
        reused: how many results were there before.
        bisected: whether only those checkpoints were audited that bisection asked for.
    """

    kind: Literal["sweep"] = "sweep"
    engine: str
    baseline: str | None = None
    corrupted: str | None = None
    suites: tuple[str, ...]
    assertions: tuple[str, ...]
    checkpoints: tuple[SweptCheckpoint, ...]
    first_broken: tuple[FirstBroken, ...] = ()
    reused: int = 0
    bisected: bool = False

    @property
    def worst_first(self) -> tuple[SweptCheckpoint, ...]:
        """The checkpoints: those that could not be read first, then those with most broken assertions."""
        return tuple(
            sorted(
                (one for one in self.checkpoints if one.looked_at),
                key=lambda one: (not one.problem, -one.count(Outcome.ERROR), -one.count(Outcome.BROKEN)),
            )
        )


def swept_checkpoint(
    name: str, results: Mapping[str, AuditResult], *, problem: str = "", looked_at: bool = True
) -> SweptCheckpoint:
    """A checkpoint with its results.

    Args:
        results: by file.
    """
    step = step_of(name)
    return SweptCheckpoint(
        checkpoint=name,
        run="" if step is None else str(PurePath(name).parent),
        step=step,
        problem=problem,
        looked_at=looked_at,
        files=tuple(results),
        passed=bool(results) and all(result.gate.passed for result in results.values()),
        assertions={
            f"{line.suite}::{line.id}": SweptAssertion.of(line)
            for result in results.values()
            for line in result.assertions
        },
    )


def swept(
    checkpoints: Sequence[SweptCheckpoint],
    *,
    engine: str,
    suites: Sequence[str],
    policy: PolicyUsed,
    baseline: str | None = None,
    corrupted: str | None = None,
    reused: int = 0,
    bisected: bool = False,
) -> SweepResult:
    """The result of a sweep over these checkpoints."""
    names = dict.fromkeys(name for one in checkpoints for name in one.assertions)
    return SweepResult(
        engine=engine,
        policy=policy,
        baseline=baseline,
        corrupted=corrupted,
        suites=tuple(suites),
        assertions=tuple(names),
        checkpoints=tuple(checkpoints),
        first_broken=tuple(_first_broken(checkpoints, tuple(names))),
        reused=reused,
        bisected=bisected,
    )


def _first_broken(checkpoints: Sequence[SweptCheckpoint], names: Sequence[str]) -> list[FirstBroken]:
    found = []
    for run in dict.fromkeys(one.run for one in checkpoints if one.run):
        steps = [one for one in checkpoints if one.run == run]
        for name in names:
            seen = {place: one.assertions[name].outcome for place, one in enumerate(steps) if name in one.assertions}
            judged = {place: outcome for place, outcome in seen.items() if outcome not in NOT_JUDGED}
            for spell in spells(judged)[:1]:
                held, back = (None if place is None else steps[place].checkpoint for place in (spell.held, spell.back))
                broke = steps[spell.first].checkpoint
                found.append(FirstBroken(run=run, assertion=name, held_before=held, broke=broke, came_back=back))
    return found
