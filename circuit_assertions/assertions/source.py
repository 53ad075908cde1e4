"""YAML with positions: plain values for validation, and the line and column of each of them for messages.

Stricter than YAML: duplicate keys, anchors, aliases and tags are refused, and so are files that are too large or nested
too deeply to be a suite. What plain YAML would do instead is keep the last of two keys without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from circuit_assertions.assertions.errors import SuiteError

__all__ = ["Problem", "Source", "read_source"]

_MOST_BYTES = 1_000_000
_DEEPEST = 20

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
        return SuiteError(*(f"{self.file}:{line}:{column}: {text}" for (line, column), text in lines))


def read_source(file: Path) -> Source:
    """Read a YAML file.

    Raises:
        SuiteError: if it cannot be read, or holds anything but plain mappings, lists and scalars.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise SuiteError(f"{file}: cannot be read: {error.strerror}") from error
    if len(raw) > _MOST_BYTES:
        raise SuiteError(f"{file}: is {len(raw)} bytes long, a suite has at most {_MOST_BYTES}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise SuiteError(f"{file}:{line}:{column}: is not UTF-8: save the file as UTF-8") from error
    source = Source(file, None)
    try:
        _refuse_aliases(source, text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        source.values = _plain(source, node, ()) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}: " if mark else ""
        raise SuiteError(f"{file}:{place}{error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SuiteError(f"{file}: is no YAML: {error}") from error
    return source


def _refuse_aliases(source: Source, text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
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


def _plain(source: Source, node: yaml.Node, path: Path_) -> Any:
    source.marks.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        return _mapping(source, node, path)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(source, item, (*path, index)) for index, item in enumerate(node.value)]
    try:
        return yaml.SafeLoader("").construct_object(node)
    except ValueError as error:  # a date that no calendar has, a number with too many digits
        place = f"{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        raise SuiteError(f"{source.file}:{place}: {str(error).partition(';')[0]}") from error


def _mapping(source: Source, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
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
        found[key] = _plain(source, value_node, (*path, key))
    return found
