"""A mutation test for suites: a model is damaged in memory, and a suite is tested by whether it notices."""

from __future__ import annotations

from circuit_assertions.mutation.errors import MutationError
from circuit_assertions.mutation.kinds import KINDS, Kind, Mutant, mutants_of

__all__ = ["KINDS", "Kind", "Mutant", "MutationError", "mutants_of"]
