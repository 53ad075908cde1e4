"""Errors of this room."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError

__all__ = ["HuntError"]


class HuntError(CircuitAssertionsError):
    """No prompt can be searched on which an assertion fails."""
