"""A sweep as text: checkpoints x assertions, the worst first, and where each assertion broke first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath

from circuit_assertions.printable import printable_lines
from circuit_assertions.report.tables import Column, table
from circuit_assertions.results.sweep import SweepResult, SweptCheckpoint
from circuit_assertions.verdict_words import NOT_JUDGED, Outcome

__all__ = ["checkpoint_line", "facts_of", "judged_names", "last_line", "short_names", "swept_lines", "verdict_of"]

_LABELS = Column(least=11)


@printable_lines
def swept_lines(sweep: SweepResult) -> Iterator[tuple[str, str]]:
    """The comparison as (text, verdict) pairs."""
    yield from ((line, "") for line in table(list(facts_of(sweep)), _LABELS))
    yield "", ""
    names = judged_names(sweep)
    yield from _rows(sweep, names)
    yield "", ""
    numbered = [(str(number), name) for number, name in enumerate(short_names(names), 1)]
    yield from ((line, "") for line in table(numbered, Column(least=2, align="right", gap=1)))
    if left := len(sweep.assertions) - len(names):
        yield f"{left} {'assertion was' if left == 1 else 'assertions were'} judged on no checkpoint", ""
    yield from _first_broken(sweep)
    yield last_line(sweep), ""


def judged_names(sweep: SweepResult) -> list[str]:
    """The assertions that were judged on some checkpoint."""
    return [
        name
        for name in sweep.assertions
        if any(
            one.assertions[name].outcome not in NOT_JUDGED or one.assertions[name].outcome == Outcome.ERROR
            for one in sweep.checkpoints
            if name in one.assertions
        )
    ]


def short_names(names: list[str]) -> list[str]:
    """The assertions by their ids, with the suite's file in front where two have the same."""
    ids = [name.rpartition("::")[2] for name in names]
    uses = Counter(ids)
    return [own if uses[own] == 1 else name for own, name in zip(ids, names, strict=True)]


def verdict_of(one: SweptCheckpoint) -> str:
    """The word that colours a checkpoint: that of its worst assertion."""
    worst = (Outcome.ERROR, Outcome.BROKEN, Outcome.UNRESOLVED, Outcome.HELD)
    return Outcome.ERROR if one.problem else next((word for word in worst if one.count(word)), "")


def checkpoint_line(one: SweptCheckpoint) -> str:
    """The counts of a checkpoint, in a line."""
    if one.problem:
        return f"{one.checkpoint}: could not be read: {one.problem}"
    counts = ", ".join(f"{one.count(word)} {word.said}" for word in Outcome if one.count(word))
    return f"{one.checkpoint}: {counts}"


def facts_of(sweep: SweepResult) -> Iterator[tuple[str, str]]:
    """What a comparison begins with, as (label, text) pairs."""
    looked_at = [one for one in sweep.checkpoints if one.looked_at]
    unread = sum(bool(one.problem) for one in looked_at)
    told = f"{len(looked_at) - unread} of {len(sweep.checkpoints)} audited"
    yield "checkpoints", f"{told}{f', {unread} could not be read' if unread else ''}, by {sweep.engine}"
    if sweep.reused:
        yield "", f"{sweep.reused} results were there before and were not made again"
    yield "baseline", sweep.baseline or "none"
    yield "suites", ", ".join(sweep.suites)
    if not sweep.policy.is_default:
        yield "policy", sweep.policy.name


def _rows(sweep: SweepResult, names: list[str]) -> Iterator[tuple[str, str]]:
    """A row for each checkpoint, the worst first: one letter for each assertion, and the counts."""
    deep = len(str(len(names)))
    numbers = ["".join(f"{number:>{deep}}"[row] for number in range(1, len(names) + 1)) for row in range(deep)]
    rows: list[tuple[str, ...]] = [("" if row < deep - 1 else "worst first", numbers[row], "") for row in range(deep)]
    shown = sweep.worst_first
    for one in shown:
        rows.append((one.checkpoint,) if one.problem else (one.checkpoint, _letters(one, names), _counts(one)))
    lines = table(rows)
    yield from ((line, "") for line in lines[:deep])
    for one, line in zip(shown, lines[deep:], strict=True):
        yield f"{line}{f'  could not be read: {one.problem}' if one.problem else ''}", verdict_of(one)
    letters = {one.assertions[name].outcome for one in shown for name in names if name in one.assertions}
    yield ", ".join(f"{word.letter} {word.lower()}" for word in Outcome if word in letters), ""


def _letters(one: SweptCheckpoint, names: list[str]) -> str:
    missing = Outcome.NOT_RUN.letter
    return "".join(
        Outcome.of(one.assertions[name].outcome).letter if name in one.assertions else missing for name in names
    )


def _counts(one: SweptCheckpoint) -> str:
    counted = (Outcome.BROKEN, Outcome.ERROR, Outcome.UNRESOLVED, Outcome.HELD)
    return ", ".join(f"{one.count(word)} {word.said}" for word in counted if one.count(word))


def _first_broken(sweep: SweepResult) -> Iterator[tuple[str, str]]:
    """Run by run, where assertions broke first, the earliest first."""
    order = {one.checkpoint: place for place, one in enumerate(sweep.checkpoints)}
    for run in dict.fromkeys(one.run for one in sweep.checkpoints if one.run):
        broken = sorted((one for one in sweep.first_broken if one.run == run), key=lambda one: order[one.broke])
        if not broken:
            continue
        yield "", ""
        yield f"{run}: first broken", ""
        rows = []
        for one in broken:
            held = f"held at {PurePath(one.held_before).name}" if one.held_before else "not seen to hold before"
            back = f", held again at {PurePath(one.came_back).name}" if one.came_back else ""
            rows.append((PurePath(one.broke).name, one.assertion.rpartition("::")[2], f"({held}{back})"))
        for line, one in zip(table(rows, indent=2), broken, strict=True):
            yield line, Outcome.HELD if one.came_back else Outcome.BROKEN


def last_line(sweep: SweepResult) -> str:
    """What bisection assumes; empty where every checkpoint was audited."""
    if sweep.bisected:
        return (
            "bisection assumes that an assertion breaks and holds again at most once in a run; breaks between two "
            "checkpoints that were audited are not detected"
        )
    return ""
