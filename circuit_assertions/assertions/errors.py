"""What can be wrong with a suite or a circuit file, always with the place in the file."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError


class SuiteError(CircuitAssertionsError):
    """A suite or circuit file is not valid. One line a problem: `file:line:column: what and the way out`."""


class NothingToSayError(CircuitAssertionsError):
    """What is asked has no answer here, though nothing is wrong: what was not lost cannot have come back."""
