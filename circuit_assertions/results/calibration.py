"""The result of the `calibrate` verb: how far readings of one model differ between settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from circuit_assertions.results.base import Part, Result
from circuit_assertions.results.values import CheckpointFacts

__all__ = ["KINDS", "CalibrationResult", "MeasureDifference", "NotCalibrated", "SettingResult", "SettingUsed"]

Kind = Literal["batch", "order", "threads", "dtype", "device"]
KINDS: tuple[Kind, ...] = ("batch", "order", "threads", "dtype", "device")


class SettingUsed(Part):
    """How readings were computed.

    Attributes:
        dtype: of the weights in memory.
        device: its type, `cpu`, `cuda` or `mps`, as readings record it.
        threads: of the processor.
        batch: how many prompts ran together at most; None for as many as there is memory for.
        order: of the prompts: `as given`, `reversed` or `shuffled`.
    """

    dtype: str
    device: str
    threads: int
    batch: int | None = None
    order: str = "as given"


class MeasureDifference(Part):
    """How far the readings of one measure differ from those of the reference setting, in its unit.

    Attributes:
        readings: of how many assertions.
        largest: of a single prompt and head, over all prompts, and `where`: the assertion, and the head if it has one.
        of_mean: the largest difference of the mean of a head over all prompts.
        width: of the interval that a verdict on that mean rests on.
        fitted: the largest difference of a mean on the first half of the prompts, which the tolerance is from.
        held_out: the same on the second half, and `held_out_prompt` that of a single prompt there.
        tolerance: of means, and `tolerance_prompt` of single prompts.
        holds: whether neither is exceeded on the second half; if one was, both are from all prompts.
    """

    measure: str
    unit: str
    readings: int
    largest: float
    where: str
    of_mean: float
    width: float
    fitted: float
    held_out: float
    held_out_prompt: float
    tolerance: float
    tolerance_prompt: float
    holds: bool


class NotCalibrated(Part):
    """What could not be compared, with the reason.

    Attributes:
        name: of the assertion.
    """

    name: str
    measure: str
    reason: str


class SettingResult(Part):
    """One setting beside the reference.

    Attributes:
        kind: what is varied, and `name`, its value: `bfloat16`.
        used: None if the machine cannot do it; then `reason` says why.
        measures: by how much readings differ.
        judged: how many assertions have a verdict under both settings, and `changed`, those whose verdict is another:
            `id: HELD -> BROKEN`.
        not_compared: assertions that have no reading under this setting.
    """

    kind: Kind
    name: str
    used: SettingUsed | None
    reason: str = ""
    measures: tuple[MeasureDifference, ...] = ()
    judged: int = 0
    changed: tuple[str, ...] = ()
    not_compared: tuple[NotCalibrated, ...] = ()


class CalibrationResult(Result):
    """A calibration of one model.

    Attributes:
        suites: whose measures were compared, on their tasks.
        circuits: the circuit files that bound the suites' roles.
        prompts: of each task that draws prompts.
        margin: a tolerance is so many times the largest difference of the first half of the prompts.
        left_out: the assertions that have no reading under the reference setting.
    """

    kind: Literal["calibration"] = "calibration"
    model: CheckpointFacts
    suites: tuple[str, ...]
    circuits: tuple[str, ...]
    prompts: int
    margin: float
    reference: SettingUsed
    settings: tuple[SettingResult, ...]
    left_out: tuple[NotCalibrated, ...] = Field(default=())
