"""Files and folders that are written whole or not at all.

What is new is written beside what is there, brought to the disk, and put in its place by one rename. A full disk, a
crash or Ctrl-C on the way leaves the old file as it was, and nothing half-written under its name.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from circuit_assertions import CircuitAssertionsError

__all__ = ["NotWrittenError", "append_text", "whole_folder", "write_whole"]

_LAST = "config.json"  # by which a folder is known as a checkpoint


class NotWrittenError(CircuitAssertionsError):
    """A file could not be written. What was there before is untouched."""


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file, text in UTF-8. Its permissions stay; where it is a link, the file that it leads to is written.

    Raises:
        NotWrittenError: if that is not possible.
    """
    raw = content.encode("utf-8") if isinstance(content, str) else content
    try:
        target = file.resolve()
        if target.exists() and not target.is_file():  # a device or a pipe has no other file in its place
            _write(os.open(target, os.O_WRONLY), raw, whole=False)
            return
        _replace(target, raw)
    except OSError as error:
        untouched = "; what was there before is untouched" if file.is_file() else ""
        raise NotWrittenError(f"{file} cannot be written: {error.strerror or error}{untouched}") from error


def append_text(file: Path, content: str) -> None:
    """Append to a file that others append to as well, in UTF-8 and in one write; it is made where there is none.

    Raises:
        NotWrittenError: if that is not possible.
    """
    try:
        _write(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), content.encode("utf-8"), whole=False)
    except OSError as error:
        raise NotWrittenError(f"{file} cannot be appended to: {error.strerror or error}") from error


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write files into, which are in `folder` once all of them are written. On an error none is.

    Args:
        folder: does not exist yet, or is empty.
    """
    there = folder.is_dir()
    place = folder.resolve() if there else folder.absolute().parent
    if not there:
        place.mkdir(parents=True, exist_ok=True)
    made = place / f".circuit-assertions.{secrets.token_hex(6)}.part"
    made.mkdir()
    try:
        yield made
        for file in made.rglob("*"):
            if file.is_file():
                _sync(file)
        if there:
            for child in sorted(made.iterdir(), key=lambda child: child.name == _LAST):
                child.replace(place / child.name)
        else:
            made.replace(folder.absolute())
        _sync(place)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _replace(target: Path, raw: bytes) -> None:
    beside = target.with_name(f".circuit-assertions.{secrets.token_hex(6)}.part")
    try:
        # Without a file there already, the permissions are those that the person's umask leaves.
        opened = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        _write(opened, raw, whole=True)
        if target.exists():
            beside.chmod(stat.S_IMODE(target.stat().st_mode))
        beside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    _sync(target.parent)


def _write(opened: int, raw: bytes, whole: bool) -> None:
    with os.fdopen(opened, "wb") as stream:
        stream.write(raw)
        stream.flush()
        if whole:
            os.fsync(stream.fileno())


def _sync(path: Path) -> None:
    """Bring a file or a folder's entries to the disk, where the system can."""
    with contextlib.suppress(OSError):
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
