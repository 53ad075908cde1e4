"""The policy that a person named: one of the three, or a file that says how it differs from one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.validation import problems_of
from circuit_assertions.assertions.yaml_source import Problem, Source, read_source
from circuit_assertions.policy import POLICIES, Policy, key_of
from circuit_assertions.printable import printable
from circuit_assertions.tasks.schema import closest, did_you_mean

__all__ = ["PolicyError", "policy_named"]

_EXTENDS = "extends"
_FIELDS = {key_of(name): name for name in POLICIES["default"].values}
_PERCENT = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*%\s*")


class PolicyError(CircuitAssertionsError):
    """There is no such policy. The message names those that there are."""


def policy_named(said: str, start: Path | None = None) -> Policy:
    """A policy by its name or its file.

    Args:
        said: `default`, `strict`, `lenient`, or the path of a YAML file.
        start: the folder that a relative path starts from; default the working directory.

    Raises:
        PolicyError: if it is neither.
        SuiteError: if the file cannot be read, has unknown keys, or values that are not allowed; with file and line.
    """
    if said in POLICIES:
        return POLICIES[said]
    file = Path(said) if start in (None, Path.cwd()) else Path(start or ".", said)
    if file.suffix not in (".yaml", ".yml"):
        hint = did_you_mean(said, list(POLICIES))
        raise PolicyError(
            printable(f"there is no policy {said!r}{hint}: use {', '.join(POLICIES)}, or a file path.yaml")
        )
    if not file.exists():
        raise PolicyError(printable(f"there is no file {said}: use {', '.join(POLICIES)}, or a file path.yaml"))
    source = read_source(file)
    source.file = Path(said)
    return _policy(source, said)


def _policy(source: Source, said: str) -> Policy:
    values = source.values
    if not isinstance(values, dict):
        raise source.error([Problem((), f"is not a policy: write `{_EXTENDS}: default`, and the values that differ")])
    problems = list(_unknown(values))
    given = {_FIELDS[key]: _plain(value) for key, value in values.items() if key in _FIELDS}
    if _EXTENDS not in values:
        problems.append(Problem((), f"{_EXTENDS!r} is missing: write `{_EXTENDS}: default`{_one_of()}"))
    elif not isinstance(values[_EXTENDS], str) or values[_EXTENDS] not in POLICIES:
        named = f"there is no policy {values[_EXTENDS]!r}"
        problems.append(
            Problem((_EXTENDS,), f"{named}{did_you_mean(str(values[_EXTENDS]), list(POLICIES))}{_one_of()}")
        )
    else:
        try:
            policy = POLICIES[values[_EXTENDS]].changed(**{"name": said, **given})
        except ValidationError as error:
            problems += _invalid(error, given)
        else:
            if not problems and not source.repeated:
                return policy
    raise source.error(problems)


def _one_of() -> str:
    return f" ({', '.join(POLICIES)})"


def _unknown(values: Mapping[Any, Any]) -> list[Problem]:
    known = [_EXTENDS, *_FIELDS]
    return [
        Problem(
            (key,),
            f"unknown key {key!r}{closest(str(key), known)}; `circuit-assertions policy` lists all thresholds",
        )
        for key in values
        if key not in known
    ]


def _plain(value: Any) -> Any:
    """The value; a share that is written as `95%` as a number."""
    percent = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    return value if percent is None else float(percent[1]) / 100


def _invalid(error: ValidationError, given: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the values, each at its key; a contradiction at the first of its keys that the file has."""
    problems: list[Problem] = []
    for entry in error.errors(include_url=False):
        if entry["type"] == "inconsistent":
            told = entry["ctx"]
            at = next((name for name in told["fields"] if name in given), "")
            problems.append(Problem((key_of(at),), told["message"]))
        else:
            place = tuple(key_of(str(part)) for part in entry["loc"])
            problems += [Problem(place, problem.message) for problem in problems_of({**entry})]
    return problems
