"""Read the whole of a user's file, up to a limit, and only if it is a regular file.

A device, a pipe or a very large file under the name of a suite would otherwise fill the memory, or block the run.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from circuit_assertions import CircuitAssertionsError

__all__ = ["UnreadableError", "read_bounded", "size_text"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class UnreadableError(CircuitAssertionsError):
    """A file cannot be read, is not a regular file, or is too large. The message does not name the file."""


def read_bounded(file: Path, most: int) -> bytes:
    """The bytes of a regular file.

    Args:
        most: the largest size in bytes.

    Raises:
        UnreadableError: if it cannot be read, is not a regular file, or is larger than `most`.
    """
    try:
        _check(file.stat(), most)
        # Not to wait, should it have become a pipe since.
        with os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
            _check(os.fstat(stream.fileno()), most)
            content = stream.read(most + 1)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a name with a null character in it
        raise UnreadableError(f"cannot be read: {error}") from error
    if len(content) > most:  # what reports no size, as files of the system do
        raise UnreadableError(f"cannot be read: it is larger than {size_text(most)}, the most that is read")
    return content


def size_text(size: int) -> str:
    """`8 MB`, `120 kB`, `12 bytes`: rounded down."""
    for unit, name in ((10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} bytes"


def _check(status: os.stat_result, most: int) -> None:
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            raise UnreadableError(f"cannot be read: it is {name}, not a file")
    if status.st_size > most:
        raise UnreadableError(f"cannot be read: it has {status.st_size} bytes, and at most {size_text(most)} are read")
