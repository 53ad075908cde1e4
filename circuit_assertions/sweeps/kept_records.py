"""Where the records of a sweep are kept: one for each checkpoint and suite, written whole.

This module alone knows how such a record is called. The name has a digest of everything that the record follows from,
so that a sweep that is started again does only what is new or has changed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from circuit_assertions import __version__
from circuit_assertions.assertions.packaged import circuits_beside
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.records.building import new_name
from circuit_assertions.records.errors import RecordError
from circuit_assertions.records.record import FORMAT_VERSION, Record
from circuit_assertions.records.store import entry_of, save
from circuit_assertions.results import SCHEMA_VERSION, AuditResult
from circuit_assertions.sweeps.asked import Setting, Unit

__all__ = ["KeptRecords"]

_DIGITS = 12
_LONGEST = 80  # characters of a checkpoint's name in a file's name
_BASELINE = "baseline"  # the label of its records begins so
_BEFORE_LABEL = 3  # parts of a record's name: day, time, random digits
_UNFIT = re.compile(r"[^\w.-]+")


@dataclass
class KeptRecords:
    """The records of a sweep.

    Attributes:
        folder: where they lie; made when the first is written.
    """

    folder: Path
    setting: Setting
    _known: dict[str, Path] = field(default_factory=dict)  # by the end of their names

    def read(self, unit: Unit) -> tuple[Path, AuditResult] | None:
        """The record of a unit and its result; None where there is none, or it is damaged and has to be made again."""
        file = self._there(self._end(unit, self._label(unit)))
        if file is None:
            return None
        try:
            return file, entry_of(file).audit
        except (RecordError, KeyError):
            return None

    def write(self, unit: Unit, record: Record) -> Path:
        """Keep the record of a unit, under a name and a label that say what it is of. Returns its file.

        Raises:
            NotWrittenError: if it cannot be written; what was kept before stays.
        """
        return self._save(record, self._label(unit), unit)

    def write_baseline(self, unit: Unit, record: Record) -> None:
        """Keep the baseline's own record, unless there is one of the same readings already.

        Raises:
            NotWrittenError: as `write`.
        """
        label = f"{_BASELINE}.{self._suite(unit)}"
        if self._there(self._end(unit, label)) is None:
            self._save(record, label, unit)

    def _save(self, record: Record, label: str, unit: Unit) -> Path:
        end = self._end(unit, label)
        name = f"{new_name(record.started, label)}.{self._digest(unit)}"
        file = save(self.folder, record.model_copy(update={"name": name, "label": label}))
        self._known[end] = file
        return file

    def _there(self, end: str) -> Path | None:
        """The newest file whose name ends so."""
        if not self._known and self.folder.is_dir():
            files = sorted(file for file in self.folder.glob("*.json") if not file.name.startswith("."))
            self._known = {file.name.split("-", _BEFORE_LABEL)[-1]: file for file in files}
        return self._known.get(end)

    def _label(self, unit: Unit) -> str:
        called = _UNFIT.sub("-", str(unit.checkpoint)).strip("-.")[-_LONGEST:].strip("-.")
        return f"{called}.{self._suite(unit)}"

    def _suite(self, unit: Unit) -> str:
        return _UNFIT.sub("-", self.setting.suites[unit.suite].stem)

    def _end(self, unit: Unit, label: str) -> str:
        return f"{label}.{self._digest(unit)}.json"

    def _digest(self, unit: Unit) -> str:
        digest = hashlib.sha256(self._shared)
        for part in (self.setting.suites[unit.suite], *_stamp(unit.checkpoint)):
            digest.update(f"{part}\0".encode())
        digest.update((self.setting.folder / self.setting.suites[unit.suite]).read_bytes())
        return digest.hexdigest()[:_DIGITS]

    @cached_property
    def _shared(self) -> bytes:
        """What all records follow from: versions, options, circuit files, the checkpoints that are compared with."""
        setting = self.setting
        parts: list[object] = [__version__, SCHEMA_VERSION, FORMAT_VERSION, sorted(setting.policy.values.items())]
        parts += [setting.opening.dtype, setting.opening.device, setting.opening.tokenizer]
        for one in (setting.baseline, setting.corrupted):
            parts += ["none"] if one is None else _stamp(one)
        for circuit in circuits_beside(*(setting.folder / suite for suite in setting.suites)):
            parts += [circuit.file, "" if circuit.file is None else circuit.file.read_text(encoding="utf-8")]
        parts.append(setting.circuit and (setting.folder / setting.circuit).read_text(encoding="utf-8"))
        return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


def _stamp(checkpoint: Checkpoint) -> Iterator[str]:
    """A checkpoint's name, with size and time of its files: when one is written again, its record is not its own."""
    yield str(checkpoint)
    yield str(checkpoint.revision)
    place = checkpoint.place
    if place is None:
        return
    for file in sorted(place.iterdir()) if place.is_dir() else [place]:
        if file.is_file():
            told = file.stat()
            yield f"{file.name} {told.st_size} {told.st_mtime_ns}"
