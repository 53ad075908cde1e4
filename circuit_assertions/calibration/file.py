"""Calibration files: the result of `calibrate` as YAML or JSON, and the tolerances that an audit takes from it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from pydantic import ValidationError

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.yaml_source import read_source
from circuit_assertions.calibration.errors import CalibrationError
from circuit_assertions.measures.tolerances import Setting, Tolerance, Tolerances
from circuit_assertions.printable import printable
from circuit_assertions.results.calibration import CalibrationResult, MeasureDifference, SettingResult
from circuit_assertions.shape import Shape

__all__ = ["calibration_text", "read_tolerances", "tolerances_of"]

_HEADER = """\
# Written by `circuit-assertions calibrate`, for audits with --circuit-calibration=FILE: where two readings were taken
# under different settings, intervals are wider by the `tolerance` of their measure.
"""


def calibration_text(result: CalibrationResult, file: Path) -> str:
    """A calibration as a file holds it: JSON where its name ends so, YAML otherwise."""
    if file.suffix == ".json":
        return result.to_json() + "\n"
    return _HEADER + yaml.safe_dump(json.loads(result.to_json()), sort_keys=False, width=110)


def read_tolerances(file: Path, called: str) -> Tolerances:
    """The tolerances of a calibration file.

    Args:
        called: the file, as messages name it.

    Raises:
        CalibrationError: if it cannot be read, or is no calibration.
    """
    try:
        values = read_source(file).values
        result = CalibrationResult.model_validate_json(json.dumps(values))
    except (CircuitAssertionsError, ValidationError, TypeError, ValueError) as error:
        why = str(error).splitlines()[0] if isinstance(error, CircuitAssertionsError) else "it has other keys or values"
        raise CalibrationError(
            printable(
                f"{called} is not a calibration ({why}): make one with "
                f"`circuit-assertions calibrate --model PATH -o {called}`"
            )
        ) from error
    return tolerances_of(result, called)


def tolerances_of(result: CalibrationResult, called: str) -> Tolerances:
    """What comparisons of an audit may use of a calibration.

    Args:
        called: its file, as messages name it.
    """
    model = result.model
    known: dict[Setting, dict[str, Tolerance]] = {}
    further: dict[str, Tolerance] = {}
    for setting in result.settings:
        if setting.used is None:
            continue
        recorded = setting.kind in ("dtype", "device")
        into = known.setdefault(Setting(setting.used.dtype, setting.used.device), {}) if recorded else further
        _take(setting, into)
    return Tolerances(
        called,
        Shape(model.architecture, model.layers, model.heads, model.d_model),
        Setting(result.reference.dtype, result.reference.device),
        known,
        further,
    )


def _take(setting: SettingResult, into: dict[str, Tolerance]) -> None:
    """The tolerances of a setting; the larger of two that readings do not tell apart, as those of two GPUs."""
    for one in setting.measures:
        into[one.measure] = _larger(into.get(one.measure), one)


def _larger(known: Tolerance | None, one: MeasureDifference) -> Tolerance:
    mean, prompt = (0.0, 0.0) if known is None else known
    return Tolerance(max(mean, one.tolerance), max(prompt, one.tolerance_prompt))
