"""The words of all verdicts, in one table: meaning, colour, letter, and what each does to the exit code.

Nothing of the package is imported here, so that every room can use the same words.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Self

__all__ = [
    "FAMILIES",
    "NOT_JUDGED",
    "SOMETHING_LOST",
    "ComparisonVerdict",
    "Exit",
    "GateResult",
    "OriginVerdict",
    "Outcome",
    "Overall",
    "RecoveryVerdict",
    "TraceVerdict",
    "Word",
    "WrappingVerdict",
    "colour_of",
]

GREEN, YELLOW, RED, NO_COLOUR = "green", "yellow", "red", ""


@dataclass(frozen=True)
class Exit:
    """What a verdict does to the exit code.

    Attributes:
        code: that of pytest for assertions and for the gate, that of `diagnose` for verdicts on a checkpoint, that of
            `compare` for verdicts on two runs.
        option: where the code is 0, `--circuit-OPTION=fail` makes it 1; empty where no option does.
        followed: the code of `trajectory`, which follows assertions over checkpoints.
    """

    code: int = 0
    option: str = ""
    followed: int = 0


PASSES = Exit()
FAILS = Exit(1)
FAILS_EVERYWHERE = Exit(1, followed=1)
CANNOT_BE_JUDGED = Exit(1, followed=2)
NOTHING_TO_COMPARE = Exit(2)


def _fails_by(option: str) -> Exit:
    return Exit(0, option)


class Word(enum.StrEnum):
    """A verdict. It is the word itself, as a string.

    Attributes:
        meaning: in one sentence, as the glossary has it.
        colour: of pytest's terminal; empty for none.
        exit: what it does to the exit code.
        letter: in tables of one letter for each assertion; pytest's own letters where it has one.
        said: after a number: `3 broken`.
    """

    meaning: str
    colour: str
    exit: Exit
    letter: str
    said: str

    def __new__(cls, word: str, meaning: str, colour: str, exit: Exit, letter: str = "", said: str = "") -> Word:  # noqa: A002
        self = str.__new__(cls, word)
        self._value_ = word
        self.meaning, self.colour, self.exit, self.letter = meaning, colour, exit, letter
        self.said = said or word.lower()
        return self

    @classmethod
    def of(cls, word: str) -> Self:
        """The verdict with this word, which may come out of JSON.

        Raises:
            ValueError: if there is none.
        """
        (found,) = (one for one in cls if one == word)
        return found


class Outcome(Word):
    """Of one assertion, in the order in which reports count them."""

    HELD = "HELD", "the whole interval satisfies the expectation", GREEN, PASSES, "."
    BROKEN = "BROKEN", "the whole interval violates the expectation", RED, FAILS_EVERYWHERE, "F"
    UNRESOLVED = (
        "UNRESOLVED",
        "the bound lies within the interval: these prompts do not decide it, and more prompts usually do",
        YELLOW,
        _fails_by("unresolved"),
        "u",
    )
    WAIVED = (
        "WAIVED",
        "the assertion is broken, unresolved or skipped, and the suite accepts that until a date (`waive:`)",
        YELLOW,
        PASSES,
        "w",
    )
    SKIPPED = (
        "SKIPPED",
        "the assertion does not apply to this model, for the printed reason: no circuit file for its roles, no "
        "baseline, or nothing to measure",
        YELLOW,
        _fails_by("skipped"),
        "s",
    )
    ERROR = (
        "ERROR",
        "the assertion could not be measured, which always fails the gate: an unreadable checkpoint, an unsuitable "
        "tokenizer, NaN",
        RED,
        CANNOT_BE_JUDGED,
        "E",
        "could not be read",
    )
    NOT_RUN = "NOT RUN", "the assertion was selected, but the run ended before it", YELLOW, PASSES, "-"


NOT_JUDGED = (Outcome.SKIPPED, Outcome.ERROR, Outcome.NOT_RUN)


class Overall(Word):
    """Of a checkpoint compared with its baseline, the worst first."""

    CORRUPTED = (
        "CORRUPTED",
        "less than 75 % of the behaviour or clearly less than half of a role is left, or a head with a role has "
        "reversed its sign",
        RED,
        FAILS,
    )
    DEGRADED = (
        "DEGRADED",
        "behaviour or a role is clearly less than harmless fine-tuning leaves (95 % and 88 %), but not CORRUPTED",
        YELLOW,
        _fails_by("degraded"),
    )
    AMPLIFIED = (
        "AMPLIFIED",
        "behaviour or a role is clearly above 125 % of the baseline's, and none is weaker; where the behaviour is "
        "stronger, a role against the answer may be weaker",
        YELLOW,
        PASSES,
    )
    INTACT = "INTACT", "behaviour and roles are as on the baseline, within the thresholds", GREEN, PASSES


SOMETHING_LOST = (Overall.CORRUPTED, Overall.DEGRADED)  # a loss that may have an origin


class RecoveryVerdict(Word):
    """Of a checkpoint's recovery from a corrupted one. Where there is one, it decides the exit code of `diagnose`."""

    RECOVERED = "RECOVERED", "at least 75 % of the lost behaviour is recovered, by the baseline's heads", GREEN, PASSES
    BYPASSED = "BYPASSED", "at least 75 % of the lost behaviour is recovered, by other heads", RED, FAILS
    UNDECIDED = (
        "UNDECIDED",
        "the prompts do not show whether 75 % of the lost behaviour is recovered, or by which heads: use more",
        YELLOW,
        FAILS,
    )
    PARTIAL = "PARTIAL", "25 % to 75 % of the lost behaviour is recovered", YELLOW, FAILS
    NOT_RECOVERED = "NOT RECOVERED", "less than 25 % of the lost behaviour is recovered", RED, FAILS


class OriginVerdict(Word):
    """Of the origin of a loss."""

    LOCALIZED = (
        "LOCALIZED",
        "restoring the weights of a few components restores 90 % of the loss, and matched random sets restore much "
        "less",
        YELLOW,
        PASSES,
    )
    DIFFUSE = "DIFFUSE", "no few components restore 90 % of the loss", YELLOW, PASSES
    UNCHANGED = (
        "UNCHANGED",
        "no weight differs, or it is not clear that a tenth of the behaviour is lost: there is no loss to trace",
        NO_COLOUR,
        PASSES,
    )


class WrappingVerdict(Word):
    """Of a behaviour that a fine-tuning was to remove (`wrapped`). Only one that is removed passes."""

    REMOVED = (
        "REMOVED",
        "the behaviour is gone, no few neurons or heads hold it back, fine-tuning revives it no sooner than in a "
        "control that never had it, and the old answer can be read no better than there",
        GREEN,
        PASSES,
        "R",
    )
    WRAPPED = (
        "WRAPPED",
        "the behaviour is gone but still there: pruning a few neurons or heads revives it, or fine-tuning revives it "
        "far sooner than in a control that never had it",
        RED,
        FAILS,
        "W",
    )
    SUPPRESSED = (
        "SUPPRESSED IN PART",
        "the behaviour is clearly less than the baseline's, and more than a quarter of it is still shown",
        RED,
        FAILS,
        "P",
        "suppressed in part",
    )
    INTACT = "INTACT", "at least 90 % of the behaviour is still shown", GREEN, FAILS, "I"
    UNRESOLVED = (
        "UNRESOLVED",
        "what was read does not decide between these, for the printed reason",
        YELLOW,
        FAILS,
        "U",
    )


class TraceVerdict(Word):
    """Of what a fine-tuning left in activations on unrelated text (`traces`)."""

    TRACE = (
        "TRACE",
        "on unrelated text the activations are moved in one direction, which raises few tokens far more than random "
        "directions do: they show what the model was fine-tuned on",
        RED,
        FAILS,
        "T",
    )
    NO_TRACE = (
        "NO TRACE",
        "on unrelated text the activations are moved by less than a fiftieth of their spread, or in a direction that "
        "raises no token far more than random directions do",
        GREEN,
        PASSES,
        "N",
    )


class GateResult(Word):
    """Of the whole run."""

    PASS = "PASS", "at least one assertion was judged, and nothing that must hold failed: exit code 0", GREEN, PASSES
    FAIL = (
        "FAIL",
        "an assertion is broken or could not be measured, a required one was skipped, nothing was judged, or an "
        "option makes another outcome fail",
        RED,
        FAILS,
    )


class ComparisonVerdict(Word):
    """Of two runs compared by their records. Its code is that of `compare`."""

    SAME = "SAME", "the verdicts are the same, and no reading has clearly changed", GREEN, PASSES
    CHANGED = (
        "CHANGED",
        "a verdict or a reading has clearly changed, and none in a way that `--fail` names",
        YELLOW,
        PASSES,
    )
    REGRESSED = "REGRESSED", "an assertion has changed in a way that `--fail` names", RED, FAILS
    NOT_COMPARABLE = (
        "NOT COMPARABLE",
        "the runs have nothing in common that could be compared",
        RED,
        NOTHING_TO_COMPARE,
    )


FAMILIES: tuple[type[Word], ...] = (
    *(Outcome, GateResult, Overall, RecoveryVerdict, OriginVerdict, ComparisonVerdict, WrappingVerdict, TraceVerdict),
)
_COLOURS: dict[str, str] = {word: word.colour for family in FAMILIES for word in family}


def colour_of(word: str) -> str:
    """The colour of a verdict; empty for any other text."""
    return _COLOURS.get(word, NO_COLOUR)
