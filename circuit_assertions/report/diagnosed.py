"""A diagnosis as a person reads it: the verdict first, then what it rests on, lens by lens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from circuit_assertions.printable import printable_lines
from circuit_assertions.report.diagnosis_told import (
    UNBROKEN,
    Told,
    behaviour_told,
    expressed_told,
    fix_command,
    inside_told,
    origin_told,
    prompts_told,
    recovery_told,
    role_told,
)
from circuit_assertions.report.explaining import share_text
from circuit_assertions.report.tables import Column, paragraph, table
from circuit_assertions.results.diagnosis import DiagnosisResult, JudgedAssertion
from circuit_assertions.verdict_words import SOMETHING_LOST, OriginVerdict, Outcome

__all__ = ["diagnosis_lines", "unwrapped"]

_LABELS = Column(least=11, gap=0)
_WIDTH = 110


@printable_lines
def diagnosis_lines(diagnosis: DiagnosisResult) -> Iterator[tuple[str, str]]:
    """The diagnosis as (text, verdict) pairs; the verdict is empty for lines that carry none."""
    yield from _labelled("model", f"{diagnosis.model}   baseline {diagnosis.baseline}")
    if diagnosis.corrupted is not None:
        yield from _labelled("", f"corrupted {diagnosis.corrupted}")
    if not diagnosis.policy.is_default:
        yield from _labelled("policy", diagnosis.policy.name)
    for note in diagnosis.notes:
        yield from _labelled("note", note)
    yield from _labelled("verdict", f"{diagnosis.verdict}: {diagnosis.why}", diagnosis.verdict)
    if diagnosis.corrupted is not None:
        yield from _laid_out(recovery_told(diagnosis))
    yield from _assertions(diagnosis.assertions)
    yield from _labelled("behaviour", behaviour_told(diagnosis))
    yield from _laid_out(prompts_told(diagnosis))
    yield from _roles(diagnosis)
    for place, changed in enumerate(diagnosis.settings_changed):
        yield from _labelled("settings" if place == 0 else "", changed)
    yield from _laid_out(origin_told(diagnosis))
    yield from _laid_out(expressed_told(diagnosis))
    if diagnosis.origin == OriginVerdict.LOCALIZED and diagnosis.verdict in SOMETHING_LOST:
        yield unwrapped("fix", fix_command(diagnosis))


def unwrapped(label: str, text: str) -> tuple[str, str]:
    """A line of a diagnosis that is not wrapped, so that a command in it can be copied."""
    (line,) = table([(label, text)], _LABELS)
    return line, ""


def _roles(diagnosis: DiagnosisResult) -> Iterator[tuple[str, str]]:
    told = {role: role_told(one) for role, one in diagnosis.roles.items()}
    told |= {role: f"not compared: {why}" for role, why in diagnosis.roles_not_compared.items()}
    if not told:
        yield from _labelled("roles", "the baseline has no circuit file: `circuit-assertions discover` writes one")
    left = _WIDTH - _LABELS.least - max(map(len, told), default=0) - Column().gap
    rows = [row for role, text in told.items() for row in paragraph(text, left, role)]
    labelled = [("" if place else "roles", *row) for place, row in enumerate(rows)]
    yield from ((_parted(line), "") for line in table(labelled, _LABELS))
    if diagnosis.inside_the_circuit is not None:
        inside = inside_told(diagnosis.inside_the_circuit, diagnosis.policy)
        yield from _labelled("", f"{inside}; effects are in {diagnosis.metric.unit}")


def _assertions(judged: Mapping[str, JudgedAssertion]) -> Iterator[tuple[str, str]]:
    """What was judged, one per line, and how much of it is recovered where it was lost."""
    told = {name: one for name, one in judged.items() if one.verdict != Outcome.SKIPPED}
    skipped = Counter(one.reason for one in judged.values() if one.verdict == Outcome.SKIPPED)
    first: dict[str, str] = {}  # to the assertion beside which a reason is told
    rows: list[tuple[str, ...]] = []
    for name, one in told.items():
        other = first.setdefault(one.reason, name) if one.reason else name
        reason = one.reason or "" if other == name else f"as for {other}"
        more = reason if one.recovered is None else f"{share_text(one.recovered)} recovered"
        rows.append(("" if rows else "assertions", name, one.verdict, more))
    lines = table(rows, _LABELS, Column(), Column(least=10))
    yield from ((line, one.verdict) for line, one in zip(lines, told.values(), strict=True))
    for why, count in skipped.items():
        yield from _labelled("" if told else "assertions", f"{count} skipped: {why}")


def _laid_out(told: Iterable[Told]) -> Iterator[tuple[str, str]]:
    for label, text, verdict in told:
        yield from _labelled(label, text, verdict)


def _labelled(label: str, text: str, verdict: str = "") -> Iterator[tuple[str, str]]:
    lines = table(paragraph(text, _WIDTH - _LABELS.least, label), _LABELS)
    yield from ((_parted(line), verdict) for line in lines)


def _parted(line: str) -> str:
    """The line with ordinary blanks, after it was broken."""
    return line.replace(UNBROKEN, " ")
