"""How far a reading may differ where the same model is read under another setting: dtype and device.

`circuit-assertions calibrate` measures it. Readings of one setting are compared as they are; those of two settings
with a tolerance, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.measures.intervals import Interval
from circuit_assertions.measures.reading import Reading
from circuit_assertions.shape import Shape

__all__ = ["NO_TOLERANCE", "IncomparableError", "Setting", "Tolerance", "Tolerances", "setting_of", "tolerance_between"]

_HOW = (
    "measure the tolerances with `circuit-assertions calibrate --model PATH -o calibration.yaml`, and give "
    "--circuit-calibration=calibration.yaml"
)


class IncomparableError(CircuitAssertionsError):
    """Two readings were taken under settings between which no tolerance is known."""


class Setting(NamedTuple):
    """What a reading records of how it was computed.

    Attributes:
        dtype: of the weights in memory, `float32`.
        device: its type, `cpu`, `cuda` or `mps`.
    """

    dtype: str
    device: str

    def __str__(self) -> str:
        return f"{self.dtype} on {self.device}"


class Tolerance(NamedTuple):
    """How far two readings of the same prompts may differ, in the measure's unit.

    Attributes:
        mean: the means over prompts.
        prompt: the values of a single prompt.
    """

    mean: float
    prompt: float

    def plus(self, other: Tolerance) -> Tolerance:
        """What two differences come to at most."""
        return Tolerance(self.mean + other.mean, self.prompt + other.prompt)

    def widened(self, interval: Interval) -> Interval:
        """An interval of means with the tolerance added at both ends."""
        return Interval(interval.low - self.mean, interval.high + self.mean)


NO_TOLERANCE = Tolerance(0.0, 0.0)


@dataclass(frozen=True)
class Tolerances:
    """The tolerances of a calibration.

    Attributes:
        source: the file they are from, as messages name it.
        shape: that of the models that they are for.
        reference: the setting that every other one was compared with.
        known: by setting and measure, how far readings of that setting differ from those of the reference.
        further: by measure, how far readings differ by what they do not record: batches, order of prompts, threads.
    """

    source: str
    shape: Shape
    reference: Setting
    known: Mapping[Setting, Mapping[str, Tolerance]]
    further: Mapping[str, Tolerance] = field(default_factory=dict)

    def between(self, measure: str, one: Setting, other: Setting) -> Tolerance:
        """The tolerance between two settings: the sum of what each differs from the reference, and of `further`.

        Raises:
            IncomparableError: if the calibration has no such setting, or not for this measure.
        """
        total = self.further.get(measure, NO_TOLERANCE)
        for setting in (one, other):
            if setting != self.reference:
                found = self.known.get(setting, {}).get(measure)
                if found is None:
                    raise IncomparableError(
                        f"readings in {one} cannot be compared with readings in {other}: {self.source} has no "
                        f"tolerance of {measure} in {setting}: {_HOW}"
                    )
                total = total.plus(found)
        return total

    def check_shape(self, shape: Shape) -> None:
        """Check that a model may use them.

        Raises:
            IncomparableError: if they were measured on a model of another shape.
        """
        if shape != self.shape:
            raise IncomparableError(f"{self.source} was measured on a {self.shape}, and this is a {shape}; {_HOW}")


def setting_of(reading: Reading) -> Setting | None:
    """The setting that a reading was taken under; None where it records none."""
    model = reading.settings.get("model", {})
    return Setting(model["dtype"], model["device"]) if {"dtype", "device"} <= set(model) else None


def tolerance_between(
    measure: str, one: Setting | None, other: Setting | None, tolerances: Tolerances | None
) -> Tolerance:
    """The tolerance of a comparison; none where both sides have the same setting, or one of them does not record it.

    Raises:
        IncomparableError: if the settings differ, and there are no tolerances between them.
    """
    if one is None or other is None or one == other:
        return NO_TOLERANCE
    if tolerances is None:
        raise IncomparableError(f"readings in {one} cannot be compared with readings in {other}: {_HOW}")
    return tolerances.between(measure, one, other)
