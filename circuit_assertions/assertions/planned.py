"""An assertion that is to be judged on a checkpoint, and the reason where it does not apply to it."""

from __future__ import annotations

from dataclasses import dataclass

from circuit_assertions.assertions.circuits import Circuit
from circuit_assertions.assertions.loading import LoadedSuite
from circuit_assertions.assertions.schema import Assertion
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.printable import printable

__all__ = ["PlannedAssertion", "NotApplicable"]


@dataclass(frozen=True)
class PlannedAssertion:
    """One assertion of a suite for one checkpoint."""

    suite: LoadedSuite
    assertion: Assertion
    checkpoint: Checkpoint
    circuits: tuple[Circuit, ...]


@dataclass(frozen=True)
class NotApplicable:
    """Why an assertion does not apply to this model, though nothing is wrong with either.

    Attributes:
        way_out: what the user can do to have it judged; empty if nothing.
    """

    reason: str
    way_out: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", printable(self.reason))
        object.__setattr__(self, "way_out", printable(self.way_out))
