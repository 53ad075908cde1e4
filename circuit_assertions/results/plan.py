"""The result of planning: what an audit would cost."""

from __future__ import annotations

from typing import Literal

from circuit_assertions.results.base import Part, Result

__all__ = ["Between", "MemoryPlan", "PlanResult", "PlannedShape", "RatesMeasured", "TimePlan"]


class PlannedShape(Part):
    """The model that is planned for.

    Attributes:
        parameters: its weights, those that are used twice counted once.
    """

    model: str
    architecture: str
    layers: int
    heads: int
    d_model: int
    parameters: int
    dtype: str
    device: str


class Between(Part):
    """A count that follows from how many prompts the assertions take.

    Attributes:
        least: where every assertion is decided by the prompts that it begins with.
        most: where every assertion takes its whole budget.
    """

    least: int
    most: int


class MemoryPlan(Part):
    """Bytes of main memory, or of the device where it has its own.

    Attributes:
        weights: of all models that are open together.
        opening: what reading one of them takes beside its weights.
        work: what batches take, and runs that are kept.
        program: what Python and its libraries take.
        peak: the most at one time.
        free: what is free now.
        fits: whether the peak is within it.
        way_out: the setting that would fit; empty where it fits.
    """

    weights: int
    opening: int
    work: int
    program: int
    peak: int
    free: int
    fits: bool
    way_out: str = ""


class RatesMeasured(Part):
    """The machine's rates, as the probe measured them.

    Attributes:
        flops: operations a second in matrix products.
        call: seconds of a small operation.
        moved: bytes a second in elementwise operations.
        seconds: how long the probe took.
    """

    flops: float
    call: float
    moved: float
    seconds: float


class TimePlan(Part):
    """Seconds for one audit on this machine.

    Attributes:
        start: of Python and its libraries.
        opening: of all models.
        least, most: of everything, for the least and the most prompts.
        expected: in between, as their geometric mean.
    """

    start: float
    opening: float
    least: float
    most: float
    expected: float
    rates: RatesMeasured


class PlanResult(Result):
    """What an audit would cost.

    Attributes:
        checkpoints: how many would be audited, one after the other.
        passes: prompts through the model for each checkpoint, the baseline's included.
        not_counted: assertions whose measure compares checkpoints; their cost is not part of the plan.
        skipped: assertions that would not be judged, each with the reason.
        disk: bytes of the result file of a checkpoint, at most.
    """

    kind: Literal["plan"] = "plan"
    shapes: tuple[PlannedShape, ...]
    suites: tuple[str, ...]
    checkpoints: int
    assertions: int
    passes: Between
    not_counted: tuple[str, ...]
    skipped: dict[str, str]
    memory: MemoryPlan
    disk: int
    time: TimePlan
