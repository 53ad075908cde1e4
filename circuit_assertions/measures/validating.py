"""Whether a measure can be read as somebody asks: one check for suites, circuit files, Python and the command line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from circuit_assertions.components import KINDS
from circuit_assertions.measures.declaring import Measure
from circuit_assertions.measures.operands import Setting, spoken_of, words_of
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import closest

__all__ = ["Told", "operand_problems", "validate"]

Told = tuple[tuple[str, ...], str]  # keys from the assertion on, and what is wrong there

_OF_HEADS = ("heads", "components", "layers")  # which a measure of a set of heads takes too


def validate(
    measure: Measure,
    task: Task | None,
    operands: Mapping[str, Any],
    *,
    called: str = "",
    kinds: Collection[str] = (),
    chosen: Collection[str] = (),
    bound: bool = False,
    expected: Callable[[Measure, Task | None], Iterable[Told]] | None = None,
) -> Iterator[Told]:
    """What is wrong with reading a measure in this way, whatever the model.

    Args:
        task: None where it is not known, which is a problem of its own.
        operands: by the keys that suites write.
        called: the task's name, for messages; default its kind.
        kinds: the kinds of components that it is to be read of.
        chosen: the keys by which heads or components are chosen and judged, as far as they are given.
        bound: whether roles are heads by now, as in Python.
        expected: what is wrong with what is expected of the reading, with keys below `expect`. Expectations belong to a
            higher floor.
    """
    called = called or (repr(task.kind) if task is not None else "")
    lacking = measure.lacking(task.offers) if task is not None else []
    if lacking:
        yield ("measure",), f"{measure.name} needs a task with {' and '.join(lacking)}, and {called} has none"
    for kind in sorted(set(kinds) - set(measure.components)) if measure.by_head or measure.joint else ():
        able = ", ".join(KINDS[each] for each in measure.components)
        yield ("components",), f"{measure.name} is not read of {KINDS[kind]}, only of {able}"
    for key, message in operand_problems(measure, operands, Setting(measure.name, task, called, bound)):
        yield (key,), message
    if not measure.by_head:
        for key in chosen:
            if not (measure.joint and key in _OF_HEADS):
                yield (key,), f"{measure.name} is a measure of the whole model: leave this out"
    for keys, message in expected(measure, task) if expected is not None else ():
        yield ("expect", *keys), message


def operand_problems(measure: Measure, operands: Mapping[str, Any], setting: Setting) -> Iterator[tuple[str, str]]:
    """What is wrong with a measure's operands: (key, message) pairs in the order of the keys."""
    keys = measure.operands.by_key()
    found = [(key, f"{measure.name} takes no `{key}`") for key in operands if key not in keys]
    try:
        measure.operands.model_validate(
            {key: operands[key] for key in keys if operands.get(key) is not None}, context=setting
        )
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            key = str(problem["loc"][0]) if problem["loc"] else "measure"
            field = keys.get(key)
            if field is None:
                found.append((key, _plain(problem)))
            elif problem["type"] == "missing":
                if spoken_of(field).spelled is not None:  # a set of heads, which no suite writes, is given by `heads:`
                    found.append((key, f"{measure.name} needs `{key}:`, {spoken_of(field).needed}"))
            elif problem["type"] == "literal_error":
                given = problem["input"]
                found.append((key, f"unknown word {given!r}{closest(str(given), list(words_of(field)))}"))
            else:
                found.append((key, _plain(problem)))
    yield from sorted(found)


def _plain(problem: Mapping[str, Any]) -> str:
    message: str = problem["msg"].removeprefix("Value error, ")
    return message.replace("Input", repr(problem["input"]), 1) if message.startswith("Input ") else message
