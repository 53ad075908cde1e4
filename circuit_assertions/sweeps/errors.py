"""What can go wrong with a sweep as a whole."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError

__all__ = ["SweepError"]


class SweepError(CircuitAssertionsError):
    """A sweep cannot be started, or cannot go on. What was finished before is kept."""
