"""A diagnosis in a report: its verdict, the behaviour and the roles as charts, and the rest in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from circuit_assertions.report.diagnosis_told import (
    Told,
    expressed_told,
    fix_command,
    inside_told,
    origin_told,
    prompts_told,
    recovery_told,
    role_told,
)
from circuit_assertions.report.explaining import figure_text, share_text
from circuit_assertions.report.page.charts import IntervalChart, interval_chart
from circuit_assertions.report.verdict_sentence import tone_of
from circuit_assertions.results import DiagnosisResult
from circuit_assertions.results.diagnosis import HeadChanged, RoleChanged
from circuit_assertions.results.values import Figure
from circuit_assertions.verdict_words import SOMETHING_LOST, OriginVerdict, Overall

__all__ = ["DiagnosisView", "RoleView", "diagnosis_view", "diagnoses_worst_first"]

_KINDS_KEPT = ("intact", "amplified")


@dataclass(frozen=True)
class RoleView:
    """A role: its share as a chart and in words, and its heads with the state of each."""

    name: str
    chart: IntervalChart
    kept: str
    told: str
    tone: str
    heads: tuple[tuple[str, str, str, str, str], ...]


@dataclass(frozen=True)
class DiagnosisView:
    """A diagnosis in words and charts.

    Attributes:
        told: label, sentence and tone of what was found beside the roles.
        fix: the command that restores the baseline's weights; empty where there is none.
    """

    found: DiagnosisResult
    tone: str
    behaviour: IntervalChart
    roles: tuple[RoleView, ...]
    told: tuple[tuple[str, str, str], ...]
    fix: str


def diagnoses_worst_first(found: Iterable[DiagnosisResult]) -> list[DiagnosisResult]:
    """Diagnoses by their verdict, the worst first; those of one verdict in the order in which they came."""
    order: list[str] = list(Overall)
    return sorted(found, key=lambda one: order.index(one.verdict) if one.verdict in order else len(order))


def diagnosis_view(found: DiagnosisResult) -> DiagnosisView:
    """A diagnosis as the page shows it."""
    behaviour, unit = found.behaviour, found.metric.unit
    figures = [("baseline", behaviour.before, ""), ("model", behaviour.after, tone_of(found.verdict))]
    if behaviour.corrupted is not None:
        figures.append(("corrupted", behaviour.corrupted, ""))
    shown = [(name, one, f"{figure_text(one)} {unit}", tone) for name, one, tone in figures]
    shares = [one.retained for one in found.roles.values()]
    localized = found.origin == OriginVerdict.LOCALIZED and found.verdict in SOMETHING_LOST
    return DiagnosisView(
        found=found,
        tone=tone_of(found.verdict),
        behaviour=interval_chart(shown),
        roles=tuple(_role(name, one, shares) for name, one in found.roles.items()),
        told=tuple(_joined(_told(found))),
        fix=fix_command(found) if localized else "",
    )


def _role(name: str, role: RoleChanged, around: Sequence[Figure]) -> RoleView:
    heads = tuple(
        (head, one.kind, figure_text(one.before), figure_text(one.after), _tone(one))
        for head, one in role.heads.items()
    )
    tone = "bad" if role.weaker and not role.works else "good" if role.works else "warn"
    chart = interval_chart([(name, role.retained, share_text(role.retained), tone)], mark=1.0, around=around)
    return RoleView(name, chart, share_text(role.retained), role_told(role), tone, heads)


def _tone(one: HeadChanged) -> str:
    return "good" if one.kind in _KINDS_KEPT else "warn" if one.kind == "sign unclear" else "bad"


def _told(found: DiagnosisResult) -> Iterator[Told]:
    if found.corrupted is not None:
        yield from recovery_told(found)
    if found.inside_the_circuit is not None:
        yield Told("circuit", inside_told(found.inside_the_circuit, found.policy))
    yield from (Told("not compared", f"{role}: {why}") for role, why in found.roles_not_compared.items())
    yield from origin_told(found)
    yield from expressed_told(found)
    yield from (Told("settings", changed) for changed in found.settings_changed)
    yield from prompts_told(found)
    yield from (Told("note", note) for note in found.notes)


def _joined(sentences: Iterator[Told]) -> Iterator[tuple[str, str, str]]:
    """Label, text and tone; a sentence without a label continues the one before."""
    label, texts, tone = "", list[str](), ""
    for one in sentences:
        if one.label and texts:
            yield label, "; ".join(texts), tone
            texts = []
        if one.label:
            label, tone = one.label, tone_of(one.verdict) if one.verdict else ""
        texts.append(one.text)
    if texts:
        yield label, "; ".join(texts), tone
