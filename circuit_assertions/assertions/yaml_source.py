"""YAML with positions: plain values for validation, and the line and column of each of them for messages.

Stricter than YAML: duplicate keys, anchors, aliases and tags are refused, and so are files that are too large or nested
too deeply to be a suite. What plain YAML would do instead is keep the last of two keys without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from circuit_assertions.assertions.errors import SuiteError
from circuit_assertions.bounded import UnreadableError, read_bounded

__all__ = ["MOST_BYTES", "Problem", "Source", "loaders", "parse_source", "read_raw", "read_source"]

MOST_BYTES = 8_000_000  # some 30,000 assertions
_DEEPEST = 20
_LONGEST_NUMBER = 5000  # characters; a number of this length is a mistake, and slow to convert
_LONGEST_LINE = 1000  # characters of a message, which may quote a value

# What the two loaders take differently, and few suites hold: control characters, tabs, line ends of other kinds, byte
# order marks, a comment right behind `|`, an empty document behind `---`.
_READ_APART = re.compile(
    f"{yaml.reader.Reader.NON_PRINTABLE.pattern}|[\t\x85\u2028\u2029\ufeff]|[|>][0-9+-]*#|(?:^|\r)---", re.MULTILINE
)

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """Something wrong at one place of a file, given as the path of keys and indices to it."""

    path: Path_
    message: str


@dataclass
class Source:
    """A YAML file as plain values, with the position of every key and item (both counted from 1).

    Attributes:
        repeated: position of and message for each key that was given before in the same mapping, whose first value was
            kept.
    """

    file: Path
    values: Any
    marks: dict[Path_, tuple[int, int]] = field(default_factory=dict)
    repeated: list[tuple[tuple[int, int], str]] = field(default_factory=list)

    def place(self, path: Path_) -> tuple[int, int]:
        """Line and column of the deepest part of `path` that the file holds."""
        parts = tuple(path)
        while parts and parts not in self.marks:
            parts = parts[:-1]
        return self.marks.get(parts, (1, 1))

    def error(self, problems: Iterable[Problem]) -> SuiteError:
        """One error with a line for each problem, repeated keys included, in the order of the file."""
        found = ((self.place(problem.path), problem.message) for problem in problems)
        lines = sorted({*self.repeated, *found})
        return SuiteError(*(f"{self.file}:{line}:{column}: {_cut(text)}" for (line, column), text in lines))


def read_source(file: Path) -> Source:
    """Read a YAML file.

    Raises:
        SuiteError: if it cannot be read, or holds anything but plain mappings, lists and scalars.
    """
    return parse_source(file, read_raw(file))


def read_raw(file: Path) -> bytes:
    """The bytes of a YAML file.

    Raises:
        SuiteError: if it cannot be read, or is too large to be a suite.
    """
    try:
        return read_bounded(file, MOST_BYTES)
    except UnreadableError as error:
        raise SuiteError(f"{file}: {error}") from error


def parse_source(file: Path, raw: bytes) -> Source:
    """The YAML of a file whose bytes were read; messages name the file.

    Raises:
        SuiteError: if it holds anything but plain mappings, lists and scalars.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise SuiteError(f"{file}:{line}:{column}: is not UTF-8: save the file as UTF-8") from error
    fast, plain = loaders()
    if fast is not plain and not _READ_APART.search(text):
        try:
            return _read(file, text, fast)
        except (SuiteError, yaml.YAMLError, ValueError, RecursionError):
            pass  # told below, in the words of the other loader: they are the same on every machine
    try:
        return _read(file, text, plain)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}: " if mark else ""
        raise SuiteError(f"{file}:{place}{error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SuiteError(f"{file}: is not valid YAML: {error}") from error


@lru_cache
def loaders() -> tuple[Any, Any]:
    """The loader that reads files and the one that reports errors: libyaml's where PyYAML has it, and PyYAML's own.

    Both give the same values at the same places; the first takes a tenth of the time.
    """
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader), yaml.SafeLoader


def _read(file: Path, text: str, loader: Any) -> Source:
    source = Source(file, None)
    _refuse_aliases(source, text, loader)
    node = yaml.compose(text, Loader=loader)
    source.values = _plain(source, node, (), yaml.constructor.SafeConstructor()) if node is not None else {}
    return source


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE // 2]} ... {text[-_LONGEST_LINE // 2 :]}"


def _refuse_aliases(source: Source, text: str, loader: Any) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        mark = event.start_mark
        place = f"{source.file}:{mark.line + 1}:{mark.column + 1}" if mark else str(source.file)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise SuiteError(f"{place}: anchors and aliases are not part of a suite: write the value out")
        tag = getattr(event, "tag", None)
        if tag:
            raise SuiteError(f"{place}: tags are not part of a suite: remove {tag}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise SuiteError(f"{place}: is nested more than {_DEEPEST} deep")


def _plain(source: Source, node: yaml.Node, path: Path_, constructor: yaml.constructor.SafeConstructor) -> Any:
    source.marks.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        return _mapping(source, node, path, constructor)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(source, item, (*path, index), constructor) for index, item in enumerate(node.value)]
    if node.tag == "tag:yaml.org,2002:str":
        return node.value
    place = f"{source.file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
    if len(node.value) > _LONGEST_NUMBER:
        raise SuiteError(f"{place}: is a number of {len(node.value)} characters: write it shorter, or in quotes")
    try:
        return constructor.construct_object(node)
    except ValueError as error:  # a date that no calendar has, a number with too many digits
        raise SuiteError(f"{place}: {str(error).partition(';')[0]}") from error


def _mapping(
    source: Source, node: yaml.MappingNode, path: Path_, constructor: yaml.constructor.SafeConstructor
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise SuiteError(f"{source.file}:{line}:{column}: a key must be a plain word")
        key = key_node.value
        if key in found:
            first = source.marks[(*path, key)][0]
            message = f"duplicate key {key!r}, first given in line {first}: YAML would silently keep the second"
            source.repeated.append(((line, column), message))
            continue
        source.marks[(*path, key)] = (line, column)
        found[key] = _plain(source, value_node, (*path, key), constructor)
    return found
