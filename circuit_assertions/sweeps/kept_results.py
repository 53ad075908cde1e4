"""Where the results of a sweep are kept: one file for each checkpoint and suite, written whole.

This module alone knows what such a file is and how it is called. The name has a digest of everything that the result
follows from, so that a sweep that is started again does only what is new or has changed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from circuit_assertions import __version__
from circuit_assertions.assertions.packaged import circuits_beside
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.files import write_whole
from circuit_assertions.results import SCHEMA_VERSION, AuditResult
from circuit_assertions.sweeps.asked import Setting, Unit

__all__ = ["KeptResults"]

_DIGITS = 12
_LONGEST = 80  # characters of a checkpoint's name in a file's name
_UNFIT = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class KeptResults:
    """The result files of a sweep.

    Attributes:
        folder: where they lie; made when the first is written.
    """

    folder: Path
    setting: Setting

    def file(self, unit: Unit) -> Path:
        """The file of a unit."""
        called = _UNFIT.sub("-", str(unit.checkpoint)).strip("-.")[-_LONGEST:]
        suite = self.setting.suites[unit.suite].stem
        return self.folder / f"{called}.{suite}.{self._digest(unit)}.json"

    def read(self, unit: Unit) -> AuditResult | None:
        """The result of a unit; None where there is none, or it is damaged and has to be made again."""
        try:
            return AuditResult.model_validate_json(self.file(unit).read_bytes())
        except (OSError, ValidationError):
            return None

    def write(self, unit: Unit, result: str) -> Path:
        """Keep the result of a unit, given as JSON. Returns its file.

        Raises:
            NotWrittenError: if it cannot be written; what was kept before stays.
        """
        file = self.file(unit)
        write_whole(file, result)
        return file

    def _digest(self, unit: Unit) -> str:
        digest = hashlib.sha256(self._shared)
        for part in (self.setting.suites[unit.suite], *_stamp(unit.checkpoint)):
            digest.update(f"{part}\0".encode())
        digest.update((self.setting.folder / self.setting.suites[unit.suite]).read_bytes())
        return digest.hexdigest()[:_DIGITS]

    @cached_property
    def _shared(self) -> bytes:
        """What all results follow from: versions, options, circuit files, the checkpoints that are compared with."""
        setting = self.setting
        parts: list[object] = [__version__, SCHEMA_VERSION, sorted(setting.policy.values.items())]
        parts += [setting.opening.dtype, setting.opening.device, setting.opening.tokenizer]
        for one in (setting.baseline, setting.corrupted):
            parts += ["none"] if one is None else _stamp(one)
        for circuit in circuits_beside(*(setting.folder / suite for suite in setting.suites)):
            parts += [circuit.file, "" if circuit.file is None else circuit.file.read_text(encoding="utf-8")]
        parts.append(setting.circuit and (setting.folder / setting.circuit).read_text(encoding="utf-8"))
        return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


def _stamp(checkpoint: Checkpoint) -> Iterator[str]:
    """A checkpoint's name, with size and time of its files: when one is written again, its result is not its own."""
    yield str(checkpoint)
    yield str(checkpoint.revision)
    place = checkpoint.place
    if place is None:
        return
    for file in sorted(place.iterdir()) if place.is_dir() else [place]:
        if file.is_file():
            told = file.stat()
            yield f"{file.name} {told.st_size} {told.st_mtime_ns}"
