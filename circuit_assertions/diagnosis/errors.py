"""Errors of this room."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError

__all__ = ["DiagnosisError", "NoCircuitError"]


class DiagnosisError(CircuitAssertionsError):
    """Something cannot be diagnosed."""


class NoCircuitError(DiagnosisError):
    """The model does not do the task, so no circuit for it can be found in it."""
