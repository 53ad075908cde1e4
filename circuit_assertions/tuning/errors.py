"""Errors of this room."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError

__all__ = ["TuningError"]


class TuningError(CircuitAssertionsError):
    """It cannot be said what a fine-tuning hid."""
