"""Which task a command means: a kind, a task file, or a task of a suite, with what the command line changes in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from circuit_assertions.assertions.errors import SuiteError
from circuit_assertions.assertions.loading import load_suite, problems_of
from circuit_assertions.assertions.packaged import circuits_beside
from circuit_assertions.assertions.yaml_source import Problem, read_source
from circuit_assertions.places import suite_path
from circuit_assertions.tasks import Task, kinds
from circuit_assertions.tasks.schema import closest, did_you_mean

__all__ = ["find_task"]

_TASK: TypeAdapter[Task] = TypeAdapter(Task)
_OF_SUITE = "::"


def find_task(said: str | None, changes: Mapping[str, Any] | None = None) -> tuple[str, Task]:
    """The task that a person named, and its short name.

    Args:
        said: a kind whose name alone makes a task, or the name of its circuit; None for the first one; a task file
            (what stands under a task's name in a suite); `suite.yaml::name`, or a suite file alone for its first task.
        changes: keys to be set in it, as the suite format spells them: `prompts`, `names`.

    Raises:
        SuiteError: if there is no such task, or it is not valid; with file, line and column where there is a file.
    """
    given = {key: value for key, value in (changes or {}).items() if value is not None}
    said = next(iter(kinds())) if said is None else said
    path, _, wanted = said.partition(_OF_SUITE)
    named = [name for name, kind in kinds().items() if kind.by_name]
    of_circuits = {kind.circuit: name for name, kind in kinds().items() if kind.by_name and kind.circuit}
    if path in named or (path in of_circuits and not wanted):
        kind = path if path in named else of_circuits[path]
        return kind, _valid({"kind": kind}, given, said)
    file = suite_path(path)
    if not path or (not file.exists() and not file.suffix):
        hint = did_you_mean(said, named)
        raise SuiteError(f"no task {said!r}{hint}: give {', '.join(named)}, a task file, or suite.yaml::name")
    source = read_source(file)
    values = source.values if isinstance(source.values, dict) else {}
    if "kind" in values and "tasks" not in values and not wanted:
        try:
            task = _TASK.validate_python(values, context={"folder": file.parent})
        except ValidationError as error:
            raise source.error(_problems(error)) from error
        if source.repeated:
            raise source.error([])
        return file.stem, _changed(task, given, said)
    tasks = load_suite(file, circuits_beside(file), unbound="allowed").suite.tasks
    name = wanted or next(iter(tasks))
    if name not in tasks:
        raise SuiteError(f"{file} has no task {name!r}{closest(name, list(tasks))}")
    return name, _changed(tasks[name], given, said)


def _changed(task: Task, given: Mapping[str, Any], said: str) -> Task:
    """The task with other keys. A conversation that it has stays where one is asked for without its messages."""
    if given.get("chat") is True and getattr(task, "chat", None) is not None:
        given = {key: value for key, value in given.items() if key != "chat"}
    return _valid(task.as_given(), given, said, getattr(task, "folder", None)) if given else task


def _valid(values: dict[str, Any], given: Mapping[str, Any], said: str, folder: Path | None = None) -> Task:
    """A task of these keys.

    Args:
        folder: of the file that it stands in; None where it has none.
    """
    try:
        return _TASK.validate_python(values | dict(given), context={} if folder is None else {"folder": folder})
    except ValidationError as error:
        problems = "; ".join(problem.message for problem in _problems(error))
        raise SuiteError(f"task {said}: {problems}") from error


def _problems(error: ValidationError) -> list[Problem]:
    """What is wrong with a task, by the path within it. Pydantic puts the chosen kind in front of it."""
    found = error.errors(include_url=False)
    return [problem for entry in found for problem in problems_of({**entry, "loc": entry["loc"][1:]})]
