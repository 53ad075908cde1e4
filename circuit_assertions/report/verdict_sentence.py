"""The verdict of the gate in one plain sentence, and the order in which reports list assertions: the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from circuit_assertions.ordering import ranked
from circuit_assertions.results import AssertionResult, AuditResult
from circuit_assertions.verdict_words import NOT_JUDGED, Outcome, colour_of

__all__ = ["WORST_FIRST", "counts_sentence", "gate_sentence", "tone_of", "worst_first"]

WORST_FIRST = (
    Outcome.ERROR,
    Outcome.BROKEN,
    Outcome.UNRESOLVED,
    Outcome.NOT_RUN,
    Outcome.WAIVED,
    Outcome.SKIPPED,
    Outcome.HELD,
)
_TONES = {"green": "good", "yellow": "warn", "red": "bad"}
_FAILING = (Outcome.BROKEN, Outcome.ERROR)


def gate_sentence(result: AuditResult) -> str:
    """Whether the gate passes, and what decides it."""
    counts = Counter(line.counted for line in result.assertions)
    judged = sum(line.outcome not in NOT_JUDGED for line in result.assertions)
    if result.gate.passed and not result.assertions:
        return "The gate judged nothing: no assertion of a suite was selected."
    if result.gate.passed:
        held = counts[Outcome.HELD]
        return f"The gate passes: {held} of {judged} judged {_assertions(judged)} held."
    broken, unread = (counts[word] for word in _FAILING)
    if broken:
        what = f"{broken} of {judged} judged {_assertions(judged)} {_are(broken)} broken"
        more = f", and {unread} could not be read" if unread else ""
        return f"The gate fails: {what}{more}{_where(result.assertions)}."
    if unread:
        return f"The gate fails: {unread} of {len(result.assertions)} assertions could not be read."
    return f"The gate fails: {_in_brackets(result.gate.line)}."


def counts_sentence(result: AuditResult) -> str:
    """How many assertions have each outcome, the worst first; empty where there are none."""
    counts = Counter(line.counted for line in result.assertions)
    return ", ".join(f"{counts[word]} {word.said}" for word in WORST_FIRST if counts[word])


def worst_first(lines: Iterable[AssertionResult]) -> list[AssertionResult]:
    """Assertions by their outcome; those of one outcome in the order in which they came."""
    places: dict[str, int] = {word: -place for place, word in enumerate(WORST_FIRST)}
    return ranked(lines, lambda line: places.get(line.counted, 0))


def tone_of(word: str) -> str:
    """How a verdict is shown: `good`, `warn`, `bad`, or `none` for what was not judged and is no error."""
    if word in NOT_JUDGED and word != Outcome.ERROR:
        return "none"
    return _TONES.get(colour_of(word), "none")


def _where(lines: Sequence[AssertionResult]) -> str:
    """On how many models, where there are several."""
    models = len({line.model for line in lines})
    failing = len({line.model for line in lines if line.counted in _FAILING})
    return f", on {failing} of {models} models" if models > 1 else ""


def _in_brackets(line: str) -> str:
    return line.partition("(")[2].removesuffix(")") or line


def _assertions(count: int) -> str:
    return "assertion" if count == 1 else "assertions"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
