"""The folder of the cache: entries by key, each a file of its own, of which none matters.

A file is what zlib makes of a JSON object, whose check value tells damage. It is written whole under another name and
renamed, so that processes that write the same entry at once leave one of theirs. What is damaged, or was written by a
version with other entries, is as if it did not exist.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from circuit_assertions.bounded import UnreadableError, read_bounded
from circuit_assertions.files import NotWrittenError, write_whole

__all__ = ["CacheFolder", "CacheSize"]

_FORMAT = 1  # raised when an entry changes its meaning
_SUFFIX, _PART = ".entry", ".part"
_MOST_BYTES = 1_000_000_000  # of all entries together
_KEPT = 0.8  # of it, once entries are removed
_MOST_OF_ONE = 200_000_000
_LEFT_OVER = 86_400  # seconds after which a file that nobody finished writing is removed
_IGNORED = "# made by circuit-assertions: readings that are taken again where they are missing\n*\n"


@dataclass(frozen=True)
class CacheSize:
    """How much a folder holds."""

    entries: int
    size: int


@dataclass
class CacheFolder:
    """Entries in a folder, which is made when the first one is written.

    Attributes:
        problem: why entries cannot be written, once that was tried; empty if they can.
    """

    folder: Path
    most_bytes: int = _MOST_BYTES
    problem: str = ""
    _made: bool = field(default=False, repr=False)

    def read(self, kind: str, key: Mapping[str, Any]) -> Any:
        """The value that was kept under a key; None where there is none that can be read."""
        file = self._file(kind, key)
        try:
            unpacking = zlib.decompressobj()
            text = unpacking.decompress(read_bounded(file, _MOST_OF_ONE), _MOST_OF_ONE)
            entry = json.loads(text) if unpacking.eof else None
        except (UnreadableError, OSError, zlib.error, ValueError, RecursionError):
            return None
        if not isinstance(entry, dict) or entry.get("format") != _FORMAT or entry.get("key") != _plain(key):
            return None
        with contextlib.suppress(OSError):
            os.utime(file)  # what is used is not the oldest
        return entry.get("value")

    def write(self, kind: str, key: Mapping[str, Any], value: Any) -> None:
        """Keep a value of JSON under a key, in the place of what was there. That it cannot be is no error."""
        if self.problem:
            return
        text = json.dumps({"format": _FORMAT, "key": _plain(key), "value": value}, allow_nan=False)
        file = self._file(kind, key)
        try:
            if not self._made:
                self._make()
            file.parent.mkdir(exist_ok=True)
            write_whole(file, zlib.compress(text.encode("ascii")))
        except (OSError, NotWrittenError) as error:
            self.problem = str(error)

    def trim(self) -> None:
        """Remove the entries that were not used for longest, if there are too many, and what was never finished."""
        with contextlib.suppress(OSError):
            for part in self.folder.glob(f"*/.*{_PART}"):
                if time.time() - part.stat().st_mtime > _LEFT_OVER:
                    part.unlink(missing_ok=True)
        entries = sorted(self._entries())
        left = sum(size for _, size, _ in entries)
        if left <= self.most_bytes:
            return
        for _, size, file in entries:
            if left <= _KEPT * self.most_bytes:
                return
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
                left -= size

    def clear(self) -> CacheSize:
        """Remove every entry; what was removed."""
        before = self.size()
        for _, _, file in self._entries():
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
        after = self.size()
        return CacheSize(before.entries - after.entries, before.size - after.size)

    def size(self) -> CacheSize:
        """How many entries there are, and their bytes together."""
        sizes = [size for _, size, _ in self._entries()]
        return CacheSize(len(sizes), sum(sizes))

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """When each entry was used last, its size, and its file. One that another process removes meanwhile is not."""
        for file in self.folder.glob(f"*/*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                found = file.stat()
                yield found.st_mtime, found.st_size, file

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        ignored = self.folder / ".gitignore"
        if not ignored.exists():
            write_whole(ignored, _IGNORED)
        self._made = True

    def _file(self, kind: str, key: Mapping[str, Any]) -> Path:
        text = json.dumps([_FORMAT, kind, _plain(key)], sort_keys=True)
        return self.folder / kind / f"{hashlib.sha256(text.encode()).hexdigest()}{_SUFFIX}"


def _plain(key: Mapping[str, Any]) -> Any:
    """A key as it comes back from JSON."""
    return json.loads(json.dumps(dict(key)))
