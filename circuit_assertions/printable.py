"""Text from elsewhere, made safe to print: names of folders, tokenizers' words, what a suite or a library says.

A control character in a name can clear the screen, move the cursor over a verdict, or begin a line that looks like one.
Each of them is shown as an escape, `\\x1b`, and ordinary letters of all scripts stay as they are.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

__all__ = ["printable", "printable_lines", "printable_output"]

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (bidirectional, zero-width), surrogate, line and paragraph
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")  # letters that take no place or look like spaces
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_COLOURS = re.compile(r"(\x1b\[[0-9;]*m|\n)")

_Given = ParamSpec("_Given")
_Line = TypeVar("_Line", str, tuple[str, str])


def printable(text: str) -> str:
    """The text in one line, with every character that is not shown as itself written as an escape."""
    return text if text.isprintable() and _BLANK.isdisjoint(text) else "".join(map(_shown, text))


def printable_output(text: str) -> str:
    """The same for what is printed as a whole: line breaks and colours stay, which are this program's own."""
    return "".join(
        part if index % 2 else printable(part)  # what is split at stands at every other place
        for index, part in enumerate(_COLOURS.split(text))
    )


def printable_lines(
    make: Callable[_Given, Iterable[_Line]],
) -> Callable[_Given, Iterable[_Line]]:
    """Make the lines that a function yields printable, each of them one line; a second value beside one stays."""

    @functools.wraps(make)
    def made(*args: _Given.args, **kwargs: _Given.kwargs) -> Iterable[_Line]:
        for line in make(*args, **kwargs):
            yield printable(line) if isinstance(line, str) else (printable(line[0]), line[1])

    return made


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN and character not in _BLANK:
        return character
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
