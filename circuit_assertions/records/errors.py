"""Errors of records."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError

__all__ = ["NotComparableError", "RecordError"]


class RecordError(CircuitAssertionsError):
    """A record that cannot be read, found or used; the message names it and the way out."""


class NotComparableError(RecordError):
    """Two records that have nothing in common that could be compared."""
