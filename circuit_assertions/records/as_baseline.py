"""A record in the place of the baseline: its readings are compared with, and no weights are opened."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.components import Component, all_of
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.measures.operands import spelled_operands
from circuit_assertions.printable import printable
from circuit_assertions.recorded import Known, TooFewRecordedError
from circuit_assertions.records.errors import RecordError
from circuit_assertions.records.packing import Array
from circuit_assertions.records.record import Record, RecordedReading, family_of
from circuit_assertions.request import Request
from circuit_assertions.results import AuditedModel
from circuit_assertions.results.base import versions
from circuit_assertions.shape import Shape
from circuit_assertions.tasks import PromptSet

__all__ = ["RecordedBaseline", "baseline_of"]

_OWN = "circuit-assertions"
_COUNT = "prompts"


@dataclass(frozen=True)
class RecordedBaseline:
    """A checkpoint of which only a record is there.

    Attributes:
        called: the record, as messages name it.
        notes: for the report: what differs between the record and this run and does not matter to a comparison.
    """

    record: Record
    called: str
    model: AuditedModel
    checkpoint: Checkpoint
    known: Known
    notes: tuple[str, ...] = ()
    _columns: dict[int, dict[str, Array]] = field(default_factory=dict, repr=False, compare=False)

    def read(self, request: Request, prompts: PromptSet) -> Reading:
        """The recorded reading of these prompts; see `RecordedCheckpoint`."""
        operands = spelled_operands(request.chosen)
        family = family_of(self.model.model, request.measure, operands, prompts.settings)
        fitting = [reading for reading in self._readings if reading.family == family]
        if not fitting:
            raise self._other(request, operands, prompts)
        wanted = self._wanted(request)
        names = [str(component) for component in wanted] or [""]
        hashes = [prompt.hash for prompt in prompts.prompts]
        chosen = [self._column(fitting, name, hashes, prompts, request) for name in names]
        reading, rows, _ = chosen[0]
        columns = np.stack([values for _, _, values in chosen], axis=1)  # [prompts, components]
        kept = self.record.prompts
        indices = [reading.indices[row] for row in rows]
        return Reading(
            request.measure,
            reading.unit,
            reading.kind,
            columns if wanted else columns[:, 0],
            wanted,
            {
                "task": dict(prompts.settings),
                "operands": operands,
                "found": dict(reading.found),
                "token_hash": prompts.token_hash,
                "balance": prompts.balance,
                "model": dict(reading.identity),
            },
            [] if kept.texts is None else [kept.texts[index] for index in indices],
            [kept.templates[index] for index in indices],
            rounding=reading.rounding,
            hashes=[kept.hashes[index] for index in indices],
            alone=reading.alone,
        )

    @cached_property
    def _readings(self) -> list[RecordedReading]:
        return [reading for reading in self.record.readings if reading.model == self.model.model]

    def _wanted(self, request: Request) -> tuple[Component, ...]:
        if not MEASURES[request.measure].by_head:
            return ()
        chosen = request.chosen.get("set", ()) if MEASURES[request.measure].joint else request.heads
        return all_of("head", self.known.shape.layers, self.known.shape.heads) if chosen is None else tuple(chosen)

    def _column(
        self, fitting: Sequence[RecordedReading], name: str, hashes: Sequence[str], prompts: PromptSet, request: Request
    ) -> tuple[RecordedReading, list[int], Array]:
        """A reading that has these prompts of a component, where they stand in it, and their values [prompts]."""
        having = [reading for reading in fitting if name in (reading.components or ("",))]
        if not having:
            raise RecordError(printable(f"{self} has no {request.measure} of {name}: {self._extend()}"))
        for reading in having:
            own = self.record.hashes_of(reading)
            if reading.token_hash == prompts.token_hash:
                return reading, list(range(len(own))), self._values(reading)[name]
            places = {one: place for place, one in enumerate(own)}
            if reading.alone and all(one in places for one in hashes):
                rows = [places[one] for one in hashes]
                return reading, rows, self._values(reading)[name][rows]
        raise self._other_prompts(having, hashes, request)

    def _other_prompts(
        self, having: Sequence[RecordedReading], hashes: Sequence[str], request: Request
    ) -> CircuitAssertionsError:
        """Why no recorded reading is of these prompts: there are fewer or more of them, or they are other ones."""
        asked, needed = set(hashes), len(hashes)
        recorded = [(set(self.record.hashes_of(reading)), reading) for reading in having]
        fewer = [int(reading.task.get(_COUNT, reading.prompts)) for own, reading in recorded if own <= asked]
        if fewer:
            return TooFewRecordedError(
                printable(
                    f"{self} has {request.measure} on {max(fewer)} prompts, and {needed} are needed: "
                    f"{self._extend(needed)}"
                )
            )
        if any(own >= asked for own, _ in recorded):
            return RecordError(
                printable(
                    f"{self} has {request.measure} on more prompts than the {needed} of this run, and what it reads of "
                    f"one depends on all of them: {self._extend()}"
                )
            )
        known = max((own for own, _ in recorded), key=lambda own: len(own & asked))
        first = next(place for place, one in enumerate(hashes, start=1) if one not in known)
        return RecordError(
            printable(
                f"{self} was made with other tokens from prompt {first} on: its tokenizer reads or draws the "
                f"prompts of {request.task.kind} otherwise; make the record again with this one (--tokenizer)"
            )
        )

    def _values(self, reading: RecordedReading) -> dict[str, Array]:
        if id(reading) not in self._columns:
            try:
                self._columns[id(reading)] = reading.columns()
            except ValueError as error:
                raise RecordError(printable(f"{self} is damaged: {error}")) from error
        return self._columns[id(reading)]

    def _other(self, request: Request, operands: Mapping[str, str], prompts: PromptSet) -> RecordError:
        """Why there is no such reading: none of the measure, of other operands, or of another task."""
        measured = [reading for reading in self._readings if reading.measure == request.measure]
        same = [reading for reading in measured if reading.operands == operands]
        if not same:
            how = ", ".join(f"{name} {value}" for name, value in operands.items() if value not in ("", "None"))
            with_what = f" with {how}" if how and measured else ""
            return RecordError(printable(f"{self} has no {request.measure}{with_what}: {self._extend()}"))
        here = {name: value for name, value in prompts.settings.items() if name != _COUNT}
        there = min((reading.task for reading in same), key=lambda task: len(_differing(task, here)))
        told = ", ".join(
            f"{name} {there.get(name)!r} there, {here.get(name)!r} here" for name in _differing(there, here)
        )
        return RecordError(printable(f"{self} has {request.measure} of another task ({told}): {self._extend()}"))

    def _extend(self, prompts: int | None = None) -> str:
        label = f"={self.record.label}" if self.record.label else ""
        command = ["pytest", f"--model={self.model.model}", *self.record.options, f"--circuit-save{label}"]
        command += [] if prompts is None else [f"--circuit-save-prompts={prompts}"]
        return f"extend it with `{shlex.join(command)}`"

    def __str__(self) -> str:
        return f"the record {self.called}"


def baseline_of(record: Record, called: str) -> RecordedBaseline:
    """A record as the baseline of a run.

    Raises:
        RecordError: if it cannot be one.
    """
    opened = [model for model in record.audit.models if model.facts is not None]
    if len(opened) != 1:
        raise RecordError(
            printable(
                f"the record {called} is of {len(opened)} checkpoints that were read, and a baseline is one: make a "
                f"record of it alone, with `pytest --model=BASELINE --circuit-save`"
            )
        )
    (model,) = opened
    facts = model.facts
    assert facts is not None
    there, here = record.audit.versions, versions()
    if _series(there.get(_OWN, "")) != _series(here[_OWN]):
        raise RecordError(
            printable(
                f"the record {called} was made with {_OWN} {there.get(_OWN)}, and this is {here[_OWN]}, whose "
                f"measures may read something else: make it again with `pytest --model={model.model} --circuit-save`"
            )
        )
    other = [f"{name} {there.get(name)} there, {here.get(name)} here" for name in here if there.get(name) != here[name]]
    notes = [f"its readings are those of the record {called}", *([f"versions: {', '.join(other)}"] if other else [])]
    identity = next((one.identity for one in record.readings if one.model == model.model), {})
    known = Known(facts.fingerprint, Shape(facts.architecture, facts.layers, facts.heads, facts.d_model), identity)
    return RecordedBaseline(record, called, model, Checkpoint(given=model.model), known, tuple(notes))


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    names = sorted({*one, *other} - {_COUNT})
    return [name for name in names if one.get(name) != other.get(name)]


def _series(version: str) -> list[str]:
    """The first two numbers of a version; a change of the third one changes no measure."""
    return version.split(".")[:2]
