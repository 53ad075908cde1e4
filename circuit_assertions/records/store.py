"""The folder of records: written whole, read in spite of damaged files, and found by what a person types."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from circuit_assertions.bounded import UnreadableError, read_bounded, size_text
from circuit_assertions.files import NotWrittenError, write_whole
from circuit_assertions.printable import printable
from circuit_assertions.records.errors import RecordError
from circuit_assertions.records.record import FORMAT_VERSION, Record
from circuit_assertions.results import SCHEMA_VERSION, AuditResult
from circuit_assertions.tasks.schema import did_you_mean

__all__ = ["Entry", "find", "history", "read", "save"]

_SUFFIX = ".json"
_MOST_BYTES = 1_000_000_000
_Made = TypeVar("_Made")
_LATEST = re.compile(r"latest(?:~(\d+))?")

# By format version: makes what such a file holds into the next version.
_UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


@dataclass(frozen=True)
class Entry:
    """A file of the folder.

    Attributes:
        raw: what it holds, not yet checked beyond its version; None where it cannot be used.
        problem: why it cannot be used; empty where it can.
    """

    file: Path
    raw: dict[str, Any] | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """As it is called by: the name of the file without `.json`."""
        return self.file.name.removesuffix(_SUFFIX)

    @property
    def label(self) -> str:
        """The name that was given to the run; empty if none was."""
        return "" if self.raw is None else str(self.raw.get("label", ""))

    @cached_property
    def audit(self) -> AuditResult:
        """The result of the audit. Nothing of the readings is looked at.

        Raises:
            RecordError: if it is damaged.
        """
        return _checked(self.file, lambda: AuditResult.model_validate((self.raw or {})["audit"]))

    @cached_property
    def record(self) -> Record:
        """The whole record.

        Raises:
            RecordError: if it is damaged, or cannot be used.
        """
        if self.raw is None:
            raise RecordError(self.problem)
        return _checked(self.file, lambda: Record.model_validate(self.raw))


def save(folder: Path, record: Record) -> Path:
    """Write a record into a folder, which is made where it does not exist. Returns its file.

    Raises:
        NotWrittenError: if it cannot be written; then there is no file of its name.
    """
    file = folder / f"{record.name}{_SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists():
            raise NotWrittenError(f"{file} already exists, and records are never overwritten: run again")
    except OSError as error:
        raise NotWrittenError(f"the folder of records {folder} cannot be made: {error.strerror or error}") from error
    write_whole(file, record.to_json())
    return file


def read(file: Path) -> Record:
    """The record in a file.

    Raises:
        RecordError: if there is none that can be used.
    """
    return entry_of(file).record


def history(folder: Path) -> list[Entry]:
    """Every record of a folder, the oldest first. A file that cannot be read does not keep others from it."""
    try:
        files = sorted(
            file for file in folder.iterdir() if file.name.endswith(_SUFFIX) and not file.name.startswith(".")
        )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(printable(f"the folder of records {folder} cannot be read: {error.strerror}")) from error
    return [entry_of(file) for file in files]


def entry_of(file: Path) -> Entry:
    """A file as it is listed; what is wrong with it is said in its `problem`."""
    try:
        return Entry(file, _current(file))
    except RecordError as error:
        return Entry(file, problem=str(error))


def find(text: str, folder: Path, start: Path = Path()) -> Entry:
    """The record that a person means.

    Args:
        text: a file; `latest`, or `latest~1` for the one before; the name of a record, or the beginning of one alone;
            or a name that was given with --circuit-save=NAME, whose newest record is meant.
        folder: of the records.
        start: the folder that a relative path starts from.

    Raises:
        RecordError: if none is meant, several are, or the one that is cannot be read.
    """
    if text.endswith(_SUFFIX) or "/" in text:
        return _usable(entry_of(start / text))
    entries = history(folder)
    if not entries:
        raise RecordError(printable(f"{text}: there is no record in {folder}: make one with `pytest --circuit-save`"))
    if match := _LATEST.fullmatch(text):
        good, back = [one for one in entries if one.raw is not None], int(match[1] or 0)
        if back >= len(good):
            raise RecordError(printable(f"{text}: {folder} has {len(good)} records that can be read"))
        return good[-1 - back]
    named = [one for one in entries if one.name == text] or [one for one in entries if one.label == text][-1:]
    begun = named or [one for one in entries if one.name.startswith(text)]
    if len(begun) > 1:
        some = ", ".join(one.name for one in begun[:3]) + ", ..." * (len(begun) > 3)
        raise RecordError(printable(f"{text} is the beginning of {len(begun)} records ({some}): give more of the name"))
    if not begun:
        known = sorted({name for one in entries for name in (one.name, one.label) if name})
        hint = did_you_mean(text, known) or ": `circuit-assertions list` names them all"
        raise RecordError(printable(f"no record is called {text!r}{hint}"))
    return _usable(begun[0])


def _usable(entry: Entry) -> Entry:
    if entry.raw is None:
        raise RecordError(entry.problem)
    return entry


def _current(file: Path) -> dict[str, Any]:
    """What a file holds, in the format of today.

    Raises:
        RecordError: if it is no record, or one that cannot be read.
    """
    again = "make it again with `pytest --circuit-save`, or remove it"
    try:
        raw = json.loads(read_bounded(file, _MOST_BYTES).decode("utf-8"))
    except UnreadableError as error:
        raise RecordError(printable(f"{file} {error}")) from error
    except (ValueError, RecursionError) as error:
        size = size_text(file.stat().st_size)
        raise RecordError(printable(f"{file} is cut off or damaged ({size}): {again}")) from error
    if not isinstance(raw, dict) or raw.get("kind") != "record":
        raise RecordError(printable(f"{file} is not a record: `pytest --circuit-save` makes one"))
    version, audit = raw.get("format_version"), raw.get("audit")
    schema = audit.get("schema_version") if isinstance(audit, dict) else None
    if not isinstance(version, int) or not isinstance(schema, int):
        raise RecordError(printable(f"{file} is damaged: it has no version: {again}"))
    if version > FORMAT_VERSION or schema > SCHEMA_VERSION:
        by = dict(audit or {}).get("versions", {}).get("circuit-assertions", "a later version")
        raise RecordError(
            printable(
                f"{file} was written by circuit-assertions {by}, whose records have the format {version} (results "
                f"{schema}); this version reads up to {FORMAT_VERSION} ({SCHEMA_VERSION}): install {by} or later"
            )
        )
    while version < FORMAT_VERSION:
        if version not in _UPGRADES:
            raise RecordError(
                printable(f"{file} has the format {version}, which is not read any more ({FORMAT_VERSION} is): {again}")
            )
        raw = _UPGRADES[version](raw)
        version += 1
    return {**raw, "format_version": version}


def _checked(file: Path, make: Callable[[], _Made]) -> _Made:
    try:
        return make()
    except (ValidationError, KeyError, ValueError) as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else str(error)
        problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "missing"
        raise RecordError(
            printable(f"{file} is damaged at {where or 'its top level'} ({problem}): make it again, or remove it")
        ) from error
