"""The comparison of two records as text: what changed, the heads by the size of their change, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from circuit_assertions.measures.figures import number, signed
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.explaining import interval_text, percent_text
from circuit_assertions.report.tables import Column, table
from circuit_assertions.results import ComparisonResult, TrendResult
from circuit_assertions.results.comparison import AssertionCompared, AssertionTrend, ReadingChange, RunCompared
from circuit_assertions.results.values import Figure
from circuit_assertions.verdict_words import ComparisonVerdict, Outcome

__all__ = ["comparison_lines", "trend_lines"]

_LABELS = Column(least=9, gap=1)
_MOST_HEADS = 8  # of one assertion
_NUMBER = Column(align="right", gap=1)


@printable_lines
def comparison_lines(result: ComparisonResult) -> Iterator[tuple[str, str]]:
    """The comparison as (text, verdict) pairs; the verdict is empty for lines that carry none."""
    facts = [("before", _run(result.before)), ("after", _run(result.after))]
    facts += [("note", note) for note in result.notes]
    if result.assertions:
        facts.append(("prompts", _prompts(result.assertions)))
    if result.level is not None and result.confidence is not None:
        level, all_ = percent_text(result.level), percent_text(result.confidence)
        facts.append(("level", f"{level} intervals, so that all {result.together} of them hold together with {all_}"))
    yield from ((line, "") for line in table(facts, _LABELS))
    for found in result.diagnoses:
        told = f"diagnosis {found.circuit}: {found.before or 'none'} -> {found.after or 'none'}"
        yield told, found.after or "" if found.before != found.after else ""
    for suite in dict.fromkeys(one.suite for one in result.assertions):
        changed = [one for one in result.assertions if one.suite == suite and (one.changed or one.reason)]
        if changed:
            yield suite, ""
        for one in changed:
            yield from _assertion(one)
    yield from _alone(result)
    yield _verdict(result), result.verdict


def _run(run: RunCompared) -> str:
    models = ", ".join(
        f"{model}  {fingerprint[:16]}" for model, fingerprint in zip(run.models, run.fingerprints, strict=True)
    )
    return f"{run.record or 'this run'}   {models}"


def _prompts(assertions: Sequence[AssertionCompared]) -> str:
    paired, unpaired = ([one for one in assertions if one.compared and one.paired is way] for way in (True, False))
    told = [f"the same in both runs, compared prompt by prompt: {_assertions(len(paired))}"] if paired else []
    if unpaired:
        told.append(f"other prompts, not paired (wider intervals): {_assertions(len(unpaired))}")
    return "; ".join(told) or "no reading was compared"


def _assertions(count: int) -> str:
    return f"{count} {'assertion' if count == 1 else 'assertions'}"


def _assertion(one: AssertionCompared) -> Iterator[tuple[str, str]]:
    turn = one.after if one.before == one.after else f"{one.before} -> {one.after}"
    notes = [f"meets --fail={','.join(one.fails)}"] if one.fails else []
    notes += [f"not compared: {one.reason}"] if one.reason else []
    notes += ["not paired"] if one.compared and not one.paired else []
    told = f"  ({'; '.join(notes)})" if notes else ""
    yield f"  {turn}  {one.id}{told}", one.after if one.changed else ""
    clear = [change for change in one.changes if change.kind != "same"]
    shown = (clear or list(one.changes))[:_MOST_HEADS]
    rows = [_change(change, one.unit) for change in shown]
    if len(clear) > len(shown):
        rows.append((f"and {len(clear) - len(shown)} more that changed less", "", "", "", "", ""))
    columns = (Column(), _NUMBER, Column(gap=1), Column(), _NUMBER, Column())
    yield from ((line, "") for line in table(rows, *columns, indent=4))


def _change(change: ReadingChange, unit: str) -> tuple[str, ...]:
    name = f"{change.name} ({change.role})" if change.role else change.name
    kind = {"same": "no clear change", "reversed": "sign reversed"}.get(change.kind, change.kind)
    figure = change.difference
    interval = interval_text(figure)
    return (
        name,
        number(change.before),
        "->",
        f"{number(change.after)} {unit}",
        signed(figure.mean),
        f"{interval}  {kind}",
    )


def _alone(result: ComparisonResult) -> Iterator[tuple[str, str]]:
    for called, names in (("before", result.only_before), ("after", result.only_after)):
        if names:
            yield f"only {called}: {', '.join(names)}", ""


def _verdict(result: ComparisonResult) -> str:
    if result.verdict == ComparisonVerdict.NOT_COMPARABLE:
        return f"{result.verdict}: {result.reason}"
    failing = [one for one in result.assertions if one.fails]
    changed = [one for one in result.assertions if one.changed]
    if failing:
        return f"{result.verdict}: {_assertions(len(failing))} of {len(result.assertions)} by --fail={result.fail}"
    if changed:
        return (
            f"{result.verdict}: {_assertions(len(changed))} of {len(result.assertions)}, none by --fail={result.fail}"
        )
    return f"{result.verdict}: {_assertions(len(result.assertions))}, no clear change"


@printable_lines
def trend_lines(result: TrendResult) -> Iterator[tuple[str, str]]:
    """The trend as (text, verdict) pairs: the runs, a row for each assertion, and the first run beside the last."""
    names = [str(number) for number in range(1, len(result.runs) + 1)]
    rows = [(name, f"{', '.join(run.models)}", run.record) for name, run in zip(names, result.runs, strict=True)]
    yield from ((line, "") for line in table([("", "checkpoint", "record"), *rows], Column(align="right")))
    yield "", ""
    for suite in dict.fromkeys(one.suite for one in result.assertions):
        own = [one for one in result.assertions if one.suite == suite]
        told = [_cells(one) for one in own]
        heads = ("", *names, "unit")
        lines = table([heads, *told], Column(), *[Column(align="right")] * len(names), indent=2)
        yield suite, ""
        yield lines[0], ""
        yield from ((line, _last(one)) for line, one in zip(lines[1:], own, strict=True))
    letters = [
        f"{word.letter} {word.lower()}" for word in Outcome if any(word in one.outcomes for one in result.assertions)
    ]
    yield ", ".join(letters), ""
    yield "", ""
    yield "the last compared with the first", ""
    yield from comparison_lines(result.first_and_last)


def _cells(one: AssertionTrend) -> tuple[str, ...]:
    name = f"{one.id}  {one.row}" if one.row else one.id
    return name, *(_cell(outcome, figure) for outcome, figure in zip(one.outcomes, one.figures, strict=True)), one.unit


def _cell(outcome: str | None, figure: Figure | None) -> str:
    if outcome is None:
        return ""
    letter = Outcome.of(outcome).letter
    return letter if figure is None else f"{number(figure.mean)} {letter}"


def _last(one: AssertionTrend) -> str:
    """The verdict that colours a row: the last one, where it is not that of the first."""
    seen = [outcome for outcome in one.outcomes if outcome is not None]
    return seen[-1] if seen and seen[-1] != seen[0] else ""
