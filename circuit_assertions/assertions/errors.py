"""What can be wrong with a suite or a circuit file, always with the place in the file."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError


class SuiteError(CircuitAssertionsError):
    """A suite or circuit file is not valid. One line per problem: `file:line:column: problem and fix`."""


class NothingToSayError(CircuitAssertionsError):
    """A reading has no value here, though nothing is wrong: what was not lost cannot be recovered."""
