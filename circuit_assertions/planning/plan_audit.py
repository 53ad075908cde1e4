"""The plan of an audit: shapes read, passes counted, the machine probed, and the cost put together."""

from __future__ import annotations

import time
from collections.abc import Sequence

from circuit_assertions.assertions.planned import PlannedAssertion
from circuit_assertions.checkpoints import Checkpoint, Opening
from circuit_assertions.diagnosis.suite_verdicts import Suites
from circuit_assertions.places import shown_path
from circuit_assertions.planning.costs import disk_of, memory_of, program_now, seconds_of, seconds_to_open
from circuit_assertions.planning.counting import Counted, CountingAudit, count_passes
from circuit_assertions.planning.probe import Rates, probe
from circuit_assertions.planning.shape_model import ShapeModel
from circuit_assertions.policy import Policy
from circuit_assertions.results.base import PolicyUsed
from circuit_assertions.results.plan import Between, PlannedShape, PlanResult, RatesMeasured, TimePlan

__all__ = ["plan_audit"]


def plan_audit(
    models: Sequence[Checkpoint],
    suites: Suites,
    opening: Opening,
    policy: Policy,
    *,
    baseline: Checkpoint | None = None,
    corrupted: Checkpoint | None = None,
    began: float | None = None,
    rates: Rates | None = None,
) -> PlanResult:
    """What auditing these checkpoints, one after the other, would cost. No weights are opened.

    Args:
        models: of one shape; that of the first is read.
        began: when the program began to import its libraries, by `time.perf_counter`; these take as long in an audit.
        rates: the machine's; default those that a probe measures now.

    Raises:
        CheckpointError: if a config.json or a tokenizer cannot be read.
        TaskError: if a task cannot be run on such a model.
    """
    from transformer_lens.model_bridge import TransformerBridge  # noqa: F401 (its memory is part of an audit's)

    start = 0.0 if began is None else time.perf_counter() - began
    first = models[0]
    asked = [
        PlannedAssertion(suite, one, first, circuits) for suite, circuits in suites for one in suite.suite.assertions
    ]

    def counted(every_look: bool) -> tuple[CountingAudit, Counted]:
        audit = CountingAudit(opening, baseline, policy)
        return audit, count_passes(audit, asked, baseline, corrupted, every_look=every_look)

    (audit, least), (_, most) = counted(False), counted(True)
    open_together = [one for one in (first, baseline, corrupted) if one is not None]
    shapes = [_shape(audit, one) for one in open_together]
    own = shapes[0]
    program = program_now()
    rates = rates or probe(own.layout.d_model, own.device, own.source.dtype)
    opened = sum(seconds_to_open(one, rates) for one in shapes)
    low, high = (start + opened + seconds_of(own, one, rates) for one in (least, most))
    return PlanResult(
        policy=PolicyUsed.of(policy),
        shapes=tuple(_told(one, str(named)) for one, named in zip(shapes, open_together, strict=True)),
        suites=tuple(shown_path(suite.file) for suite, _ in suites),
        checkpoints=len(models),
        assertions=len(asked),
        passes=Between(least=least.passes, most=most.passes),
        not_counted=tuple(dict.fromkeys(least.comparing)),
        skipped=dict(least.skipped),
        memory=memory_of(shapes, most, program),
        disk=disk_of(len(asked), most),
        time=_time(start, opened, low, high, rates),
    )


def _time(start: float, opened: float, low: float, high: float, rates: Rates) -> TimePlan:
    return TimePlan(
        start=start,
        opening=opened,
        least=low,
        most=high,
        expected=(low * high) ** 0.5,
        rates=RatesMeasured(flops=rates.flops, call=rates.call, moved=rates.moved, seconds=rates.seconds),
    )


def _shape(audit: CountingAudit, checkpoint: Checkpoint) -> ShapeModel:
    model = audit.model(checkpoint)
    assert isinstance(model, ShapeModel)
    return model


def _told(model: ShapeModel, called: str) -> PlannedShape:
    return PlannedShape(
        model=called,
        architecture=model.source.architecture,
        layers=model.layout.layers,
        heads=model.layout.heads,
        d_model=model.layout.d_model,
        parameters=model.layout.numbers,
        dtype=str(model.source.dtype).removeprefix("torch."),
        device=model.device.type,
    )
