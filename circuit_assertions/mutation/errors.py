"""Errors of this room."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError

__all__ = ["MutationError"]


class MutationError(CircuitAssertionsError):
    """A suite cannot be tested with mutants, or an earlier run cannot be continued."""
