"""The outcomes of an assertion: one table of words, letters and colours, for every report.

Nothing is imported here, so that every room can use the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BROKEN", "ERROR", "HELD", "NOT_JUDGED", "NOT_RUN", "OUTCOMES", "SKIPPED", "UNRESOLVED", "WAIVED", "Outcome"]

HELD, BROKEN, UNRESOLVED = "HELD", "BROKEN", "UNRESOLVED"  # verdicts: something was judged
SKIPPED, ERROR, NOT_RUN = "SKIPPED", "ERROR", "NOT RUN"
WAIVED = "WAIVED"  # not held, and a waiver in force says that this does not fail the gate


@dataclass(frozen=True)
class Outcome:
    """How one outcome is shown.

    Attributes:
        letter: in tables of a letter an assertion; pytest's own letters where it has one.
        said: after a number: `3 broken`.
        colour: of pytest's terminal; empty for none.
        judged: whether the assertion was judged.
    """

    word: str
    letter: str
    said: str
    colour: str
    judged: bool


OUTCOMES: Mapping[str, Outcome] = {
    one.word: one
    for one in (
        Outcome(HELD, ".", "held", "green", True),
        Outcome(BROKEN, "F", "broken", "red", True),
        Outcome(UNRESOLVED, "u", "unresolved", "yellow", True),
        Outcome(WAIVED, "w", "waived", "yellow", False),  # of the gate alone: what is waived may have been skipped
        Outcome(SKIPPED, "s", "skipped", "yellow", False),
        Outcome(ERROR, "E", "could not be read", "red", False),
        Outcome(NOT_RUN, "-", "not run", "yellow", False),
    )
}
NOT_JUDGED = (SKIPPED, ERROR, NOT_RUN)
