"""What a record holds: the result of an audit, and one value per prompt and head of everything that was read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from circuit_assertions.records.packing import Array, Values
from circuit_assertions.results import AuditResult, HuntResult
from circuit_assertions.results.base import Part

__all__ = ["FORMAT_VERSION", "Record", "RecordedPrompts", "RecordedReading", "family_of", "ranges_of"]

FORMAT_VERSION = 1  # raised when a field is removed or changes its meaning
_COUNT = "prompts"  # the setting of a task that only says how many prompts it has


def family_of(model: str, measure: str, operands: Mapping[str, str], task: Mapping[str, Any]) -> str:
    """What two readings share that may be of the same prompts: all settings but the number of prompts."""
    settings = {name: value for name, value in task.items() if name != _COUNT}
    return json.dumps([model, measure, dict(operands), settings], sort_keys=True)


class RecordedPrompts(Part):
    """The prompts of all readings of a record, each once.

    Attributes:
        hashes: of their token ids, clean and counterfactual, and their answers.
        templates: the group that each was made from; empty where there is none.
        texts: None where the record was made with --circuit-redact.
    """

    hashes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    texts: tuple[str, ...] | None = ()

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len({len(self.hashes), len(self.templates), *([] if self.texts is None else [len(self.texts)])}) > 1:
            raise ValueError("prompts have not as many hashes, templates and texts")
        return self


class RecordedReading(Part):
    """One measure of one model on one task, prompt by prompt.

    Attributes:
        kind: `mean`, or `share` where the values are ones and zeros.
        operands: what the measure was told, as words.
        task: the settings of the task, from which its prompts follow.
        token_hash: of the token ids of all prompts of the task, also of those that only a search looked at.
        identity: what tells readings of this model from those of another: fingerprint, dtype, device.
        rounding: the size below which a value is rounding and has no sign.
        alone: whether the value of a prompt is the same whichever other prompts are read.
        rows: the prompts that were read, as ranges [first, end) of the record's prompts.
        components: the columns of `values`; empty for a measure of the whole model, which has one column.
        beside: what the reading is compared with, by name: random circuits.
    """

    model: str
    measure: str
    unit: str
    kind: str
    operands: dict[str, str] = Field(default_factory=dict)
    task: dict[str, Any] = Field(default_factory=dict)
    token_hash: str = ""
    balance: dict[str, Any] = Field(default_factory=dict)
    identity: dict[str, str] = Field(default_factory=dict)
    found: dict[str, str] = Field(default_factory=dict)
    approximate: bool = False
    rounding: float = 0.0
    alone: bool = False
    rows: tuple[tuple[int, int], ...]
    components: tuple[str, ...] = ()
    values: Values
    beside: dict[str, Values] = Field(default_factory=dict)

    @property
    def prompts(self) -> int:
        """How many prompts it has values of."""
        return self.values.prompts

    @property
    def family(self) -> str:
        """What it shares with readings of more or fewer prompts of the same task."""
        return family_of(self.model, self.measure, self.operands, self.task)

    @property
    def indices(self) -> list[int]:
        """Where its prompts stand among the record's."""
        return [row for first, end in self.rows for row in range(first, end)]

    def columns(self) -> dict[str, Array]:
        """The values [prompts] by component; under an empty name for a measure of the whole model.

        Raises:
            ValueError: if they are damaged.
        """
        values = self.values.array()
        return {name: values[:, place] for place, name in enumerate(self.components or ("",))}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.components or ("",)) != self.values.columns:
            raise ValueError("a reading has not as many columns as components")
        if any(end <= first or first < 0 for first, end in self.rows):
            raise ValueError("a reading has rows that are not ranges")
        if sum(end - first for first, end in self.rows) != self.values.prompts:
            raise ValueError("a reading has not as many rows as values")
        return self


class Record(Part):
    """One run, as it is kept.

    Attributes:
        format_version: of the fields below.
        name: of the file, without `.json`: time, random digits, and `label` where one was given.
        started, seconds: when the run began (UTC), and how long it took.
        redacted: whether the texts of prompts and the folders of absolute paths were left out.
        options: those that the run was started with, as arguments; file names in them are relative.
        audit: verdicts, diagnoses, policy, versions, fingerprints; without the values of single prompts, which
            `readings` has.
        reads: for each assertion of the audit, which of `readings` its verdict rests on; null where there is none.
        seconds_of: for each assertion, how long it took.
        hunts: searches for a prompt on which an assertion fails, with what they found.
    """

    kind: Literal["record"] = "record"
    format_version: int = Field(default=FORMAT_VERSION, ge=FORMAT_VERSION, le=FORMAT_VERSION)
    name: str
    label: str = ""
    started: datetime
    seconds: float
    redacted: bool = False
    options: tuple[str, ...] = ()
    audit: AuditResult
    reads: tuple[int | None, ...] = ()
    seconds_of: tuple[float | None, ...] = ()
    hunts: tuple[HuntResult, ...] = ()
    prompts: RecordedPrompts = Field(default_factory=RecordedPrompts)
    readings: tuple[RecordedReading, ...] = ()

    def to_json(self) -> str:
        """The record as JSON in ASCII, one key per line, and one reading per line."""
        plain = self.model_dump(mode="json")
        lines = [f"{json.dumps(key)}: {_compact(value)}" for key, value in plain.items() if key != "readings"]
        readings = ",\n".join(map(_compact, plain["readings"]))
        return "{\n" + ",\n".join([*lines, f'"readings": [\n{readings}\n]']) + "\n}\n"

    def hashes_of(self, reading: RecordedReading) -> list[str]:
        """The hashes of a reading's prompts, in its order."""
        return [self.prompts.hashes[index] for index in reading.indices]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        count = len(self.prompts.hashes)
        if any(end > count for reading in self.readings for _, end in reading.rows):
            raise ValueError("a reading has rows beyond the record's prompts")
        for told in (self.reads, self.seconds_of):
            if len(told) not in (0, len(self.audit.assertions)):
                raise ValueError("reads and seconds_of have one entry for each assertion")
        if any(read is not None and not 0 <= read < len(self.readings) for read in self.reads):
            raise ValueError("an assertion reads what the record has not")
        return self


def ranges_of(indices: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Indices as ranges [first, end), in their order."""
    found: list[tuple[int, int]] = []
    for index in indices:
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return tuple(found)


def _compact(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
