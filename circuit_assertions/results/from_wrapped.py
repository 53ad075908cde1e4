"""The result of the `wrapped` verb, from what was found."""

from __future__ import annotations

from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.measures import Reading
from circuit_assertions.measures.figures import Figure as MeasuredFigure
from circuit_assertions.measures.intervals import Level
from circuit_assertions.results.base import PolicyUsed
from circuit_assertions.results.values import CheckpointFacts, Figure, MetricFacts
from circuit_assertions.results.wrapped import (
    ProbeResult,
    PrunedPoint,
    PrunedResult,
    RevivalResult,
    RevivedModel,
    WrappedResult,
)
from circuit_assertions.tuning.found import Probes, Wrapping
from circuit_assertions.tuning.pruned import PrunedCurve
from circuit_assertions.tuning.revived import Revival

__all__ = ["wrapped_result"]


def wrapped_result(found: Wrapping) -> WrappedResult:
    """What was found, as a typed result."""
    asked = found.asked

    def facts_of(checkpoint: Checkpoint) -> CheckpointFacts:
        return CheckpointFacts.of(checkpoint, found.audit.opened(checkpoint))

    gap = found.probe_gap
    return WrappedResult(
        policy=PolicyUsed.of(found.policy),
        model=facts_of(asked.model),
        baseline=facts_of(asked.baseline),
        control=None if asked.control is None else facts_of(asked.control),
        called=asked.called,
        task=dict(found.prompts.settings),
        token_hash=found.prompts.token_hash,
        prompts=len(found.prompts),
        metric=MetricFacts.of(asked.task.answer_metric),
        behaviour=Figure.of(found.behaviour),
        baseline_behaviour=Figure.of(found.baseline_behaviour),
        kept=Figure.of(found.kept),
        control_kept=None if found.control_kept is None else Figure.of(found.control_kept),
        verdict=found.verdict,
        why=found.why,
        missing=found.missing,
        probes=tuple(_probe(name, probes) for name, probes in found.probes.items()),
        probe_gap=None if gap is None else Figure(mean=gap[0], low=gap[1].low, high=gap[1].high),
        pruned=tuple(_pruned(found, curve) for curve in found.curves),
        revival=_revival(found),
    )


def _probe(name: str, probes: Probes) -> ProbeResult:
    together = len(probes.by_layer)
    return ProbeResult(
        of=name,
        by_layer=tuple(_of_reading(one, together) for one in probes.by_layer),
        best=_of_reading(probes.best, 1),
        shuffled=float(probes.best.beside["shuffled answers"].mean()),
    )


def _of_reading(reading: Reading, together: int) -> Figure:
    return Figure.of(MeasuredFigure.of(reading, Level.of_figures().among(together)))


def _pruned(found: Wrapping, curve: PrunedCurve) -> PrunedResult:
    points = (
        PrunedPoint(
            units=len(point.units),
            revived=float(curve.share(point.values).mean()),
            random=float(curve.share(point.random).mean()),
        )
        for point in curve.points
    )
    level = Level.of_figures(found.policy).among(len(found.curves))
    return PrunedResult(
        kind=curve.kind,
        limit=curve.limit,
        points=tuple(points),
        units=tuple(map(str, sorted(curve.chosen.units))),
        revived=Figure.of(curve.figure(level)),
        random=curve.random_share,
        text_lost=Figure.of(found.text_lost[curve.kind]),
        holds=curve in found.holding,
    )


def _revival(found: Wrapping) -> RevivalResult | None:
    revivals, asked = found.revivals, found.asked
    if revivals is None:
        return None
    given = {"model": revivals.model, "control": revivals.control, "original": revivals.original}
    ratio, told = revivals.ratio, None
    if ratio is not None:
        told = Figure(mean=ratio.mean, low=ratio.interval.low, high=ratio.interval.high)
    return RevivalResult(
        rate=asked.course.rate,
        batch=asked.course.batch,
        steps=asked.course.steps,
        prompts=min(found.policy.revival_prompts, len(found.prompts) - len(found.prompts) // 2),
        models=tuple(_revived(name, one) for name, one in given.items() if one is not None),
        ratio=told,
        at_most=ratio is not None and ratio.at_most,
        at_least=ratio is not None and ratio.at_least,
    )


def _revived(name: str, one: Revival) -> RevivedModel:
    curves = tuple(tuple((done, float(values.mean())) for done, values in curve) for curve in one.curves)
    return RevivedModel(of=name, to_half=one.to_half, curves=curves)
