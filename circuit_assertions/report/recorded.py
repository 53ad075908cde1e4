"""Records as text: the list of a folder, and one of them as the audit had printed it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from circuit_assertions.bounded import size_text
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.diagnosed import diagnosis_lines
from circuit_assertions.report.hunted import hunt_lines
from circuit_assertions.report.summary import summary_lines
from circuit_assertions.report.tables import Column, table
from circuit_assertions.report.trajectory import turning_lines
from circuit_assertions.results import AuditResult, HuntResult
from circuit_assertions.verdict_words import GateResult, Outcome

__all__ = ["RecordListed", "RecordShown", "list_lines", "record_lines"]

_LABELS = Column(least=9, gap=1)
_NAMED = 3  # checkpoints of one record


@dataclass(frozen=True)
class RecordListed:
    """A file of the folder of records.

    Attributes:
        audit: None where it cannot be read.
        problem: why.
    """

    name: str
    label: str
    audit: AuditResult | None
    problem: str = ""


@dataclass(frozen=True)
class RecordShown:
    """What is shown of a record besides its audit.

    Attributes:
        values: how many single values it has, of so many readings and prompts.
        hunts: searches for a prompt on which an assertion fails.
    """

    name: str
    started: datetime
    seconds: float
    redacted: bool
    options: tuple[str, ...]
    readings: int
    prompts: int
    values: int
    size: int
    hunts: tuple[HuntResult, ...] = ()


@printable_lines
def list_lines(records: Iterable[RecordListed]) -> Iterator[tuple[str, str]]:
    """One line a record as (text, verdict) pairs, the oldest first; what cannot be read in its place."""
    entries = list(records)
    rows = [_row(one) for one in entries]
    for one, line in zip(entries, table(rows), strict=True):
        if one.audit is None:
            yield f"{one.name}  cannot be read: {one.problem}", Outcome.ERROR
        else:
            yield line, GateResult.PASS if one.audit.gate.passed else GateResult.FAIL


def _row(one: RecordListed) -> tuple[str, ...]:
    if one.audit is None:
        return ("", "", "", "")
    models = [model.model for model in one.audit.models]
    told = ", ".join(models[:_NAMED]) + f" and {len(models) - _NAMED} more" * (len(models) > _NAMED)
    counts = Counter(line.counted for line in one.audit.assertions)
    said = ", ".join(f"{counts[word]} {word.said}" for word in Outcome if counts[word])
    return one.name, str(GateResult.PASS if one.audit.gate.passed else GateResult.FAIL), told, said


@printable_lines
def record_lines(record: RecordShown, audit: AuditResult) -> Iterator[tuple[str, str]]:
    """A record as (text, verdict) pairs: what it is, then what the run printed."""
    versions = ", ".join(f"{name} {version}" for name, version in audit.versions.items())
    facts = [
        ("record", record.name),
        ("started", f"{record.started:%Y-%m-%d %H:%M:%S} UTC, took {record.seconds:.0f} s"),
        ("options", " ".join(record.options)),
        ("versions", versions),
        ("holds", f"{record.values} values of {record.readings} readings on {record.prompts} prompts, {_size(record)}"),
    ]
    yield from ((line, "") for line in table([fact for fact in facts if fact[1]], _LABELS))
    yield "", ""
    policy = "" if audit.policy.is_default else audit.policy.name
    yield from summary_lines(audit.models, audit.assertions, policy)
    for run in audit.runs:
        yield from turning_lines(run, audit.assertions)
    for diagnosis in audit.diagnoses:
        yield "", ""
        yield from diagnosis_lines(diagnosis)
    for hunt in record.hunts:
        yield "", ""
        yield from hunt_lines(hunt)
    yield audit.gate.line, GateResult.PASS if audit.gate.passed else GateResult.FAIL


def _size(record: RecordShown) -> str:
    return size_text(record.size) + ", without texts of prompts" * record.redacted
