"""Errors of this room."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError

__all__ = ["DiagnosisError", "NoCircuitError", "UndecidedError"]


class DiagnosisError(CircuitAssertionsError):
    """Something cannot be diagnosed."""


class NoCircuitError(DiagnosisError):
    """The model does not do the task, so no circuit for it can be found in it."""


class UndecidedError(NoCircuitError):
    """The prompts that were asked do not tell whether there is a circuit: more of them would."""
