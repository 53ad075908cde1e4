"""What can be wrong with a task, or with asking it of one model."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError


class TaskError(CircuitAssertionsError):
    """A task cannot be run on this model: its tokenizer or its positions do not allow it."""
