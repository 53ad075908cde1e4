"""Errors of this room."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError

__all__ = ["CalibrationError"]


class CalibrationError(CircuitAssertionsError):
    """A model cannot be calibrated, or a file has no calibration that can be used."""
