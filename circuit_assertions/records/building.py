"""Make the record of a run: of its result, of the readings that it took, and of what is known of the run itself."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from circuit_assertions.records.gathering import Gathered
from circuit_assertions.records.paths import Shortening
from circuit_assertions.records.record import Record, RecordedPrompts, RecordedReading, family_of
from circuit_assertions.results import AssertionResult, AuditResult, HuntResult

__all__ = ["About", "Judged", "build", "new_name"]

Judged = tuple[str, str, str]  # suite, id and model of an assertion
_LEFT_OUT = "left out"
_TEXTS_OF_TASKS = ("prefix", "chat")  # settings of a task that hold the text in front of its prompts
_SAID = ("user", "system")  # of a chat


@dataclass(frozen=True)
class About:
    """What is known of a run besides what it judged.

    Attributes:
        label: the name that was given to it; empty if none was.
        started: in UTC.
        seconds_of: how long each assertion took.
    """

    started: datetime
    seconds: float
    shortening: Shortening
    label: str = ""
    options: tuple[str, ...] = ()
    seconds_of: Mapping[Judged, float] = field(default_factory=dict)


def new_name(started: datetime, label: str = "") -> str:
    """`20261201-075512345-3fa9c1-base`: sorted by time, and not the same for two runs that start at once."""
    thousandths = started.microsecond // 1000
    parts = [f"{started:%Y%m%d-%H%M%S}{thousandths:03d}", secrets.token_hex(3), *([label] if label else [])]
    return "-".join(parts)


def build(result: AuditResult, gathered: Gathered, about: About, hunts: Sequence[HuntResult] = ()) -> Record:
    """The record of a run."""
    readings, prompts = gathered.readings()
    redact = about.shortening.redact
    audit = _plain_audit(result, about.shortening)
    keys = [(one.suite, one.id, one.model) for one in result.assertions]
    return Record(
        name=new_name(about.started, about.label),
        label=about.label,
        started=about.started,
        seconds=round(about.seconds, 3),
        redacted=redact,
        options=tuple(map(about.shortening.text, about.options)),
        audit=audit,
        reads=tuple(_read_by(one, readings) for one in result.assertions),
        hunts=tuple(HuntResult.model_validate(about.shortening.tree(one.model_dump(mode="json"))) for one in hunts),
        seconds_of=tuple(None if (known := about.seconds_of.get(key)) is None else round(known, 3) for key in keys),
        prompts=RecordedPrompts(**(dict(prompts) | ({"texts": None} if redact else {}))),
        readings=tuple(_plain_reading(one, about.shortening) for one in readings),
    )


def _read_by(one: AssertionResult, readings: Sequence[RecordedReading]) -> int | None:
    """Which reading a verdict rests on: of those with all of its prompts and components, the one with fewest heads."""
    own = one.reading
    if own is None:
        return None
    family = family_of(one.model, own.measure, own.operands, own.task)
    fitting = [
        place
        for place, reading in enumerate(readings)
        if reading.family == family
        and set(own.components) <= set(reading.components)
        and (reading.token_hash == own.token_hash or (reading.alone and reading.prompts >= own.prompts))
    ]
    return min(fitting, key=lambda place: len(readings[place].components), default=None)


def _plain_audit(result: AuditResult, shortening: Shortening) -> AuditResult:
    """The result without the values of prompts, its paths shortened."""
    # What reports show of circuits is made for them: texts of prompts, and effects that readings have.
    assertions = tuple(one.without_values() for one in result.assertions)
    few = result.model_copy(update={"assertions": assertions, "circuits": ()})
    plain = few.model_dump(mode="json")
    worst = [one.pop("worst") for one in plain["assertions"]]
    made = shortening.tree(plain)
    for one, prompts in zip(made["assertions"], worst, strict=True):
        if prompts is not None and shortening.redact:
            prompts["prompts"] = [[value, _LEFT_OUT] for value, _ in prompts["prompts"]]
        one["worst"] = prompts
        if shortening.redact and one["reading"] is not None:
            one["reading"]["task"] = _redacted(one["reading"]["task"])
    for one in made["diagnoses"] if shortening.redact else ():
        if "task" in one["settings"]:
            one["settings"]["task"] = _redacted(one["settings"]["task"])
    return AuditResult.model_validate(made)


def _plain_reading(reading: RecordedReading, shortening: Shortening) -> RecordedReading:
    update: dict[str, Any] = {"model": shortening.text(reading.model)}
    if shortening.redact:
        update["task"] = _redacted(reading.task)
    return reading.model_copy(update=update)


def _redacted(task: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a task without the text in front of its prompts; a hash of a chat's template stays."""

    def left(name: str, value: Any) -> Any:
        if name not in _TEXTS_OF_TASKS:
            return value
        if not isinstance(value, dict):
            return _LEFT_OUT
        return {key: _LEFT_OUT if key in _SAID else said for key, said in value.items()}

    return {name: left(name, value) for name, value in task.items()}
