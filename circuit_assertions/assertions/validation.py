"""Check a file against its schema, and say in the words of suites what is wrong in it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from circuit_assertions.assertions.proposed import BOUND_KINDS
from circuit_assertions.assertions.yaml_source import Problem, Source
from circuit_assertions.measures.receivers import RECEIVER_KINDS
from circuit_assertions.tasks import kinds
from circuit_assertions.tasks.schema import closest

__all__ = ["problems_of", "validate"]

Loaded = TypeVar("Loaded", bound=BaseModel)


def validate(model: type[Loaded], source: Source) -> tuple[Loaded | None, list[Problem]]:
    """The file as `model`, or every problem that it has. An unknown key hides no other problem of its mapping."""
    values = source.values
    problems: list[Problem] = []
    while True:
        try:
            valid = model.model_validate(values, context={"folder": source.file.parent})
        except ValidationError as error:
            found = [entry for entry in error.errors(include_url=False) if not _follows_from_others(entry)]
            problems += [problem for entry in found if entry["type"] == "unknown_key" for problem in problems_of(entry)]
            if not any(entry["type"] == "unknown_key" for entry in found):
                return None, problems + [problem for entry in found for problem in problems_of(entry)]
            if values is source.values:
                values = copy.deepcopy(values)
            for entry in found:
                if entry["type"] == "unknown_key":
                    _remove(values, _path_of(entry), entry["ctx"]["unknown"])
        else:
            return (None if problems else valid), problems


def _follows_from_others(found: Mapping[str, Any]) -> bool:
    """Pydantic calls a list too short once none of its items is valid."""
    return found["type"] == "too_short" and bool(len(found["input"]) >= found["ctx"]["min_length"])


def _remove(values: Any, path: tuple[str | int, ...], keys: Iterable[Any]) -> None:
    for part in path:
        values = values[part]
    for key in keys:
        del values[key]


def _path_of(found: Mapping[str, Any]) -> tuple[str | int, ...]:
    return _without_tag(tuple(found["loc"]))


def problems_of(found: Mapping[str, Any]) -> list[Problem]:
    """One of pydantic's findings in the words of a suite; a mapping's unknown keys one by one."""
    if found["type"] == "unknown_key":
        path = _path_of(found)
        unknown: dict[Any, str] = found["ctx"]["unknown"]
        return [Problem((*path, key), f"unknown key {key!r}{hint}") for key, hint in unknown.items()]
    return [_problem_of(found)]


def _problem_of(found: Mapping[str, Any]) -> Problem:
    path = _path_of(found)
    context: dict[str, Any] = found.get("ctx", {})
    kind, given = found["type"], found.get("input")
    message = found["msg"].removeprefix("Value error, ")
    if kind == "missing":
        message = f"{path[-1]!r} is missing"
    elif kind == "union_tag_invalid":
        message, path = f"unknown kind {context['tag']!r}{closest(str(context['tag']), list(kinds()))}", (*path, "kind")
    elif kind == "union_tag_not_found":
        message = f"'kind' is missing: {', '.join(kinds())}"
    elif kind == "literal_error" and isinstance(given, str):
        message = f"unknown word {given!r}: {context['expected']}"
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        message = f"is {_called(given)} where a mapping of keys to values is expected"
    elif kind == "tuple_type":
        message = f"is {_called(given)} where a list is expected"
    elif kind == "string_type":
        message = f"is {_called(given)} where a word is expected"
    elif kind == "string_pattern_mismatch":
        message = f"{given!r} is not a plain name: use letters, digits, - and _"
    elif kind == "too_short" and context.get("actual_length") == 0:
        message = f"{path[-1]!r} is empty: give at least {context['min_length']}"
    elif kind == "too_short" and isinstance(context.get("actual_length"), int):
        count = context["actual_length"]
        given_are = f"{count} {'is' if count == 1 else 'are'} given"
        message = f"{path[-1]!r} needs at least {context['min_length']}, and {given_are}"
    return Problem(path, message.replace("Input", repr(given), 1) if message.startswith("Input ") else message)


def _called(value: Any) -> str:
    if value is None or value == {}:
        return "empty"
    names = {list: "a list", dict: "a mapping", str: "text", bool: "yes or no", int: "a number", float: "a number"}
    return names.get(type(value), f"a {type(value).__name__}")


def _without_tag(path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Pydantic puts the chosen kind of a task, receiver or stage into the path, where the file has no such level.

    Nor has it one for operands.
    """
    if path[:1] == ("stages",):
        return (*path[:2], *path[3:])
    if path[:1] == ("tasks",) and path[2:3] and path[2] in kinds():
        return (*path[:2], *path[3:])
    if "operands" in path[2:4]:
        where = path.index("operands")
        path = (*path[:where], *path[where + 1 :])
        if path[where + 1 : where + 2] and path[where + 1] in RECEIVER_KINDS:
            return (*path[: where + 1], *path[where + 2 :])
        return path
    return tuple(part for part in path if part not in BOUND_KINDS) if "expect" in path[2:3] else path
