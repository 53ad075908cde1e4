"""The file that keeps what was judged, mutant by mutant, so that an interrupted run can be continued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from circuit_assertions.bounded import UnreadableError, read_bounded
from circuit_assertions.files import write_whole
from circuit_assertions.mutation.errors import MutationError
from circuit_assertions.results.base import SCHEMA_VERSION
from circuit_assertions.results.mutation import MutantResult, NotMade

__all__ = ["Done", "Work"]

_KIND = "mutation-work"
_MOST_BYTES = 256_000_000
_OTHER = "give another --resume FILE, or remove this one to start again"

Done = MutantResult | NotMade


@dataclass
class Work:
    """What was judged so far.

    Attributes:
        file: where it is kept, one JSON object a line, the first of which is `settings`; None to keep nothing.
        settings: everything that the outcome of a mutant depends on, by what messages call it.
        done: by the mutants' names.
    """

    file: Path | None
    settings: Mapping[str, Any]
    done: dict[str, Done] = field(default_factory=dict)

    @classmethod
    def opened(cls, file: Path | None, settings: Mapping[str, Any]) -> Work:
        """The work that a file keeps, or none yet where there is no such file.

        Raises:
            MutationError: if the file is of another kind, or was made with other settings.
        """
        plain = json.loads(json.dumps({"kind": _KIND, "schema version": SCHEMA_VERSION, **settings}))
        work = cls(file, plain)
        if file is not None and file.exists():
            first, *lines = _lines(file)
            _check(file, first, plain)
            for line in lines:
                work._take(file, line)
        return work

    def add(self, one: Done) -> None:
        """Keep one more mutant. The file is written whole each time, so that no line of it is ever cut off.

        Raises:
            NotWrittenError: if it cannot be written.
        """
        self.done[one.name] = one
        if self.file is not None:
            kept = [_line(self.settings), *(_line(one.model_dump(mode="json")) for one in self.done.values())]
            write_whole(self.file, "".join(kept))

    def _take(self, file: Path, line: Any) -> None:
        kind: type[Done] = NotMade if isinstance(line, dict) and "reason" in line else MutantResult
        try:
            one = kind.model_validate_json(json.dumps(line))
        except ValidationError as error:
            raise MutationError(f"{file} has a line that is not the outcome of a mutant; {_OTHER}") from error
        self.done[one.name] = one


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False) + "\n"


def _lines(file: Path) -> list[Any]:
    try:
        return [json.loads(line) for line in read_bounded(file, _MOST_BYTES).decode("utf-8").splitlines()] or [None]
    except UnreadableError as error:
        raise MutationError(f"{file} {error}; {_OTHER}") from error
    except ValueError as error:
        raise MutationError(f"{file} was not written by `circuit-assertions mutate`; {_OTHER}") from error


def _check(file: Path, first: Any, settings: Mapping[str, Any]) -> None:
    if not isinstance(first, dict) or first.get("kind") != _KIND:
        raise MutationError(f"{file} was not written by `circuit-assertions mutate`; {_OTHER}")
    for name in {**first, **settings}:
        if first.get(name) != settings.get(name):
            raise MutationError(
                f"{file} keeps the work of another {name} ({_short(first.get(name))}; this run has "
                f"{_short(settings.get(name))}), so it cannot be continued; {_OTHER}"
            )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else "none" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
