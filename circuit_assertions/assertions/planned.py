"""An assertion that is to be judged on a checkpoint, and the reason where it does not apply to it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from circuit_assertions.assertions.circuits import Circuit
from circuit_assertions.assertions.loading import LoadedSuite
from circuit_assertions.assertions.schema import Assertion
from circuit_assertions.assertions.verdicts import Verdict
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.printable import printable
from circuit_assertions.tasks import Task

__all__ = ["PlannedAssertion", "NotApplicable"]


@dataclass(frozen=True)
class PlannedAssertion:
    """One assertion of a suite for one checkpoint.

    Attributes:
        look: how often its prompts were doubled, where their number grows.
    """

    suite: LoadedSuite
    assertion: Assertion
    checkpoint: Checkpoint
    circuits: tuple[Circuit, ...]
    look: int = 0

    @property
    def task(self) -> Task:
        """What is asked, with the prompts of this look."""
        return self._looks[self.look]

    @property
    def circuit(self) -> str:
        """The name of the circuit whose roles it uses."""
        return self.suite.circuit_of(self.assertion)

    @property
    def looks(self) -> tuple[PlannedAssertion, ...]:
        """The same assertion at each look."""
        return tuple(replace(self, look=look) for look in range(len(self._looks)))

    @property
    def is_last_look(self) -> bool:
        """Whether its budget is spent."""
        return self.look + 1 == len(self._looks)

    def goes_on(self, verdict: Verdict) -> bool:
        """Whether it is judged again at a further look."""
        return verdict is Verdict.UNRESOLVED and not self.is_last_look

    @property
    def together(self) -> int:
        """What the error rate of a run is shared out among, before heads: all assertions of the suite, and all looks.

        Those that are declared count, whichever are selected: alone an assertion has the same verdict.
        """
        return len(self.suite.suite.assertions) * len(self._looks)

    @property
    def _looks(self) -> tuple[Task, ...]:
        return self.suite.suite.tasks[self.assertion.task].looks


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
