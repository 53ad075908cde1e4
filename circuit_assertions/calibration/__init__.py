"""Calibration: a model compared with itself under other settings, and the tolerances that follow from it."""

from __future__ import annotations

from circuit_assertions.calibration.errors import CalibrationError

__all__ = ["CalibrationError"]
