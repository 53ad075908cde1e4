"""The summary of an audit: which model, which circuit, and one line for each assertion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from circuit_assertions.measures.figures import number
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.explaining import figure_text, percent_text, share_text, without_chat_text
from circuit_assertions.report.tables import Column, table
from circuit_assertions.results import AssertionResult, AuditedModel
from circuit_assertions.results.audit import MetLimit, ReadingCounts
from circuit_assertions.shape import Shape
from circuit_assertions.verdict_words import Outcome

__all__ = ["cache_lines", "summary_lines"]

_NOT_READ = (Outcome.SKIPPED, Outcome.ERROR, Outcome.NOT_RUN)


@printable_lines
def cache_lines(readings: ReadingCounts, problem: str) -> Iterator[str]:
    """What the cache gave, and why nothing could be kept in it.

    Args:
        problem: empty where there is none.
    """
    if readings.cached:
        yield f"cache     {readings.cached} of {readings.all} readings come from earlier runs"
    if problem:
        yield f"cache     readings are not kept for later runs: {problem}"


def _telling(line: AssertionResult) -> str:
    """The row that decided: the worst where each head must hold, the best where some must; and how the others did."""
    row, unit = line.rows[0], line.reading.unit if line.reading is not None else ""
    before = f", baseline {number(row.baseline)}" if row.baseline is not None else ""
    shown = f"{row.name} {figure_text(row.figure)} {unit}".strip()
    return f"{shown}{before}{_others(line)}"


def _others(line: AssertionResult) -> str:
    first, count = line.rows[0], len(line.rows)
    alike = sum(row.verdict == first.verdict for row in line.rows)
    if count == 1:
        return ""
    if line.of_some and first.verdict != Outcome.HELD:
        return f" (the best of {count} heads)"
    return f" ({alike} of {count} heads {first.verdict.lower()})"


def _facts(model: AuditedModel) -> Iterator[tuple[str, str]]:
    """What is said of a checkpoint before its assertions: (label, text) pairs, each label's in alphabetical order."""
    facts, baseline = model.facts, model.baseline
    told: list[tuple[str, Iterable[str]]] = []
    if facts is not None:
        shape = Shape(facts.architecture, facts.layers, facts.heads, facts.d_model)
        told = [("", [f"{shape.architecture}, {shape.size}, {facts.dtype} on {facts.device}"])]
        told.append(("weights", [facts.fingerprint[:16]]))
    notes = [*(facts.notes if facts is not None else ())]
    if baseline is not None and baseline.checkpoint != model.model:
        notes += [f"of the baseline: {note}" for note in baseline.notes]
    told.append(("note", notes))
    if baseline is not None:
        told.append(("baseline", [f"{baseline.checkpoint}  {baseline.fingerprint[:16]}"]))
    unfit = [f"{model.corrupted}: recovery cannot be measured: {model.unfit}"] if model.unfit else []
    told += [("settings", model.settings), ("corrupted", unfit), ("circuit", model.circuits)]
    limits = [f"{limit.name}: {limit.reason}" for limit in model.limits]
    told += [("limits", limits), ("warning", model.warnings)]
    for label, texts in told:
        yield from ((label, text) for text in sorted(set(texts)))


@printable_lines
def summary_lines(
    audited: Iterable[AuditedModel], lines: Sequence[AssertionResult], policy: str = ""
) -> Iterator[tuple[str, str]]:
    """The report as (text, outcome) pairs; outcome is empty for lines that are no verdict.

    Args:
        policy: its name, where it is to be shown.
    """
    for model in audited:
        own = [line for line in lines if line.model == model.model]
        if not own and not model.refused:
            continue
        facts = [("model", model.model), *_facts(model), *([("policy", policy)] if policy else [])]
        yield from ((text, "") for text in table(facts, Column(least=9, gap=1)))
        yield from _table(own)
        yield from _waivers(own)
        yield from _limits([(line.limit, line.id) for line in own if line.limit is not None], Outcome.ERROR.said)
        yield from _limits([(one.limit, one.test) for one in model.refused], "failed in Python")
        yield from _reasons(own)
        yield from _across(own)
        if own:
            yield _counts(own), ""
        if sure := _sure(own):
            yield sure, ""


def _table(lines: Sequence[AssertionResult]) -> Iterator[tuple[str, str]]:
    rows = [(line.outcome, line.id, _read(line)) for line in lines]
    printed = list(zip(lines, table(rows, Column(least=10, gap=1), indent=2), strict=True))
    for suite in dict.fromkeys(line.suite for line in lines):
        own = [(line, text) for line, text in printed if line.suite == suite and line.outcome != Outcome.NOT_RUN]
        if own:
            yield suite, ""
        for line, text in own:
            yield f"{text}{_notes(line)}", line.outcome
            below = [f"why: {line.why}"] if line.outcome == Outcome.BROKEN and line.why else []
            below += [] if line.without_chat is None else [without_chat_text(line.without_chat)]
            yield from ((told, "") for told in table([("", one) for one in below], Column(least=10, gap=1), indent=2))


def _read(line: AssertionResult) -> str:
    if not line.rows or line.outcome in _NOT_READ:
        return ""
    asked = f"; {line.reading.prompts}/{line.budget} prompts" if line.budget and line.reading else ""
    return f"{_telling(line)}, expected {line.expected}{asked}"


def _notes(line: AssertionResult) -> str:
    """What is said behind what was read."""
    notes = ""
    if line.outcome not in _NOT_READ:
        notes += f"; {share_text(line.recovered)} recovered" if line.recovered is not None else ""
        notes += "  (amplified)" if line.amplified else ""
        notes += f"  (templates disagree: {_strata(line)})" if line.strata else ""
    elif line.required and line.outcome == Outcome.SKIPPED:
        notes += "  (required)"
    return notes + _waived(line)


def _strata(line: AssertionResult) -> str:
    return ", ".join(f"{name} {one.verdict} {number(one.row.figure.mean)}" for name, one in sorted(line.strata.items()))


def _waived(line: AssertionResult) -> str:
    return "  (waived)" if line.counted == Outcome.WAIVED else ""


def _waivers(lines: Sequence[AssertionResult]) -> Iterator[tuple[str, str]]:
    """Every waiver, with what it does now."""
    for line in lines:
        if line.waiver is None or line.outcome == Outcome.NOT_RUN:
            continue
        if line.outcome == Outcome.HELD:
            does = "it holds: remove the waiver"
        elif line.expired:
            does = "the waiver has EXPIRED and has no effect"
        elif line.counted == Outcome.WAIVED:
            does = f"{line.outcome.lower()}, does not fail the gate"
        else:
            does = "it could not be read, which a waiver does not cover"
        text = f"waiver    {line.id} until {line.waiver.until}: {line.waiver.reason} ({does})"
        yield text, line.outcome if line.expired else ""


def _limits(refused: Sequence[tuple[MetLimit, str]], said: str) -> Iterator[tuple[str, str]]:
    """For each limit of the model, whose reason is among its facts, the measures that it refused and where."""
    for limit in dict.fromkeys(met.name for met, _ in refused):
        own: dict[str, list[str]] = {}
        for met, where in refused:
            if met.name == limit:
                own.setdefault(met.measure, []).append(where)
        measures = ", ".join(f"{measure} ({', '.join(names)})" for measure, names in own.items())
        count = sum(map(len, own.values()))
        yield f'{count} {said}: limit "{limit}" of the model, shown above, refuses {measures}', Outcome.ERROR


def _reasons(lines: Sequence[AssertionResult]) -> Iterator[tuple[str, str]]:
    """Why assertions were skipped or could not be read, each reason once."""
    for outcome in (Outcome.ERROR, Outcome.SKIPPED):
        reasons = Counter(line.reason for line in lines if line.outcome == outcome and line.limit is None)
        for reason, count in reasons.items():
            first, *more = reason.split("\n")
            yield f"{count} {outcome.said}: {first}", outcome
            yield from ((f"  {line}", outcome) for line in more)


def _across(lines: Sequence[AssertionResult]) -> Iterator[tuple[str, str]]:
    """Comparisons with readings of another dtype or device, those that were refused among them."""
    told = Counter(text.partition(";")[0] for line in lines for text in line.across)
    yield from ((f"{count} across settings: {text}", "") for text, count in told.items())


def _sure(lines: Sequence[AssertionResult]) -> str:
    """What the intervals of the run promise together; empty where nothing was judged."""
    confidence = max((line.confidence for line in lines if line.confidence is not None), default=None)
    if confidence is None:
        return ""
    suites = len({line.suite for line in lines if line.confidence is not None})
    every = f", those of all {suites} suites with {percent_text(1 - suites * (1 - confidence))}" if suites > 1 else ""
    return f"intervals of a suite hold together with {percent_text(confidence)}{every}"


def _counts(lines: Sequence[AssertionResult]) -> str:
    counts = Counter(line.outcome for line in lines)
    said = (f"{counts[outcome]} {outcome.said}" for outcome in Outcome if counts[outcome])
    return "verdicts  " + ", ".join(said)
