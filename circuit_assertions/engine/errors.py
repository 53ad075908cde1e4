"""What can go wrong while a model is being measured."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError


class MeasuringError(CircuitAssertionsError):
    """A measure cannot be taken from this model, or what was read is not a number."""
