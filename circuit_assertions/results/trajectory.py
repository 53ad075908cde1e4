"""The result of a trajectory: figures and verdicts of every checkpoint, and where each assertion broke."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from circuit_assertions.checkpoints import step_of
from circuit_assertions.diagnosis.bisecting import spells
from circuit_assertions.measures.figures import Figure as MeasuredFigure
from circuit_assertions.results.base import Part, PolicyUsed, Result
from circuit_assertions.results.values import Figure, MetricFacts, figures

if TYPE_CHECKING:
    from circuit_assertions.diagnosis.trajectory import Step, Trajectory

__all__ = ["BrokenSpell", "CheckpointOfRun", "PromptsRead", "TrajectoryResult"]


class PromptsRead(Part):
    """How many prompts behaviour and roles were read by, and how many the task has."""

    behaviour: int
    task: int


class CheckpointOfRun(Part):
    """One checkpoint of the run that was looked at.

    Attributes:
        step: None for the weights in the root of the run.
        problem: why it could not be read; then there are no figures.
        overall, why: the verdict that a diagnosis gives it.
    """

    checkpoint: str
    step: int | None
    behaviour: Figure | None
    retained: Figure | None
    roles: dict[str, Figure]
    roles_not_compared: dict[str, str]
    overall: str | None
    why: str | None
    verdicts: dict[str, str]
    reasons: dict[str, str]
    recovered: dict[str, Figure]
    problem: str | None

    @classmethod
    def of(cls, step: Step) -> CheckpointOfRun:
        """A checkpoint that was looked at."""
        return cls(
            checkpoint=str(step.checkpoint),
            step=step_of(str(step.checkpoint)),
            behaviour=_or_none(step.behaviour),
            retained=_or_none(step.retained),
            roles=figures(step.roles),
            roles_not_compared=dict(step.not_compared),
            overall=step.overall or None,
            why=step.why or None,
            verdicts=dict(step.verdicts),
            reasons=dict(step.reasons),
            recovered=figures(step.recovered),
            problem=step.problem or None,
        )


class BrokenSpell(Part):
    """A stretch of the run in which an assertion was broken, by its checkpoints; None where there is no such one."""

    held_before: str | None
    broke: str | None
    broken_last: str | None
    came_back: str | None


class TrajectoryResult(Result):
    """A training run, compared with its baseline.

    Attributes:
        run: as it was named, and `run_checkpoints`, the names of its checkpoints in order.
        metric: of the task; behaviour is read by it.
        colours: those of roles in the picture of the run, of roles that have one.
        before: the baseline's answer metric.
        checkpoints: how many it has; `audited` of them were read.
        bisected: whether only those were looked at that bisection asked for.
        assertions: by name, the stretches in which each was broken.
        notes: how checkpoints were read.
    """

    kind: Literal["trajectory"] = "trajectory"
    run: str
    run_checkpoints: tuple[str, ...]
    baseline: str
    task: str
    circuit: str
    metric: MetricFacts
    colours: dict[str, str]
    before: Figure
    checkpoints: int
    audited: int
    bisected: bool
    prompts: PromptsRead | None
    steps: tuple[CheckpointOfRun, ...]
    assertions: dict[str, tuple[BrokenSpell, ...]]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, found: Trajectory) -> TrajectoryResult:
        """The result of a run that was followed."""
        prompts = found.prompts
        return cls(
            policy=PolicyUsed.of(found.policy),
            run=found.run[0].given,
            run_checkpoints=tuple(map(str, found.run)),
            baseline=str(found.baseline),
            task=found.task,
            circuit=found.circuit,
            metric=MetricFacts.of(found.metric),
            colours=dict(found.colours),
            before=Figure.of(found.before),
            checkpoints=len(found.run),
            audited=found.audited,
            bisected=found.bisected,
            prompts=None if prompts is None else PromptsRead(behaviour=prompts[0], task=prompts[1]),
            steps=tuple(map(CheckpointOfRun.of, found.steps)),
            assertions={name: _spells(found.seen(name), found) for name in found.assertions},
            notes=tuple(note for checkpoint in found.run for note in checkpoint.notes),
        )

    def seen(self, assertion: str) -> dict[int, str]:
        """An assertion's verdicts by place in the run, of the checkpoints that could be read."""
        places = {name: place for place, name in enumerate(self.run_checkpoints)}
        return {places[step.checkpoint]: step.verdicts[assertion] for step in self.steps if step.problem is None}


def _spells(seen: Mapping[int, str], found: Trajectory) -> tuple[BrokenSpell, ...]:
    def named(place: int | None) -> str | None:
        return None if place is None else str(found.run[place])

    return tuple(
        BrokenSpell(
            held_before=named(spell.held),
            broke=named(spell.first),
            broken_last=named(spell.last),
            came_back=named(spell.back),
        )
        for spell in spells(seen)
    )


def _or_none(figure: MeasuredFigure | None) -> Figure | None:
    return None if figure is None else Figure.of(figure)
