"""Paths in records: relative to where the run was started, or without their folders."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

__all__ = ["Shortening"]

# An absolute path in a text: not the second part of a relative one, of a URL, or of a fraction.
_ABSOLUTE = re.compile(r"(?<![\w./:~\\-])(?:[A-Za-z]:\\|~?/)[^\s'\"`,;()\[\]<>|]*[^\s'\"`,;()\[\]<>|.:]")


@dataclass(frozen=True)
class Shortening:
    """Makes the absolute paths in texts relative.

    Attributes:
        start: the folder that the run was started in.
        redact: whether only their last part is left, and texts of prompts are left out.
        named: paths that may contain blanks, as they were typed: the checkpoints.
    """

    start: Path
    redact: bool = False
    named: tuple[str, ...] = ()

    def text(self, text: str) -> str:
        """A text with every absolute path in it shortened."""
        for path in sorted((one for one in self.named if _is_absolute(one)), key=len, reverse=True):
            text = text.replace(path, self._short(path))
        return _ABSOLUTE.sub(lambda found: self._short(found[0]), text)

    def tree(self, value: Any) -> Any:
        """The same for every text of a JSON value, names of fields included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.tree(one) for one in value]
        if isinstance(value, dict):
            return {self.text(key): self.tree(one) for key, one in value.items()}
        return value

    def _short(self, path: str) -> str:
        if self.redact:
            return PurePath(path.replace("\\", "/")).name or "/"
        if path.startswith("~") or re.match(r"[A-Za-z]:\\", path):
            return PurePath(path).name
        return Path(os.path.relpath(path, self.start)).as_posix()


def _is_absolute(path: str) -> bool:
    return Path(path).is_absolute() and len(path) > 1
