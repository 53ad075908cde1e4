"""What a sweep is asked: which checkpoints, which suites, and how they are judged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from circuit_assertions.checkpoints import Checkpoint, CheckpointError, Opening, find_checkpoints
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.sweeps.errors import SweepError

__all__ = ["Found", "Setting", "Unit", "found_checkpoints", "units_of"]

_WILD = re.compile(r"[*?\[]")
_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Setting:
    """How every checkpoint of a sweep is judged. It is sent to the workers.

    Attributes:
        folder: the working directory, from which relative paths start in every process.
        suites: as they were named.
        circuit: the file of `--circuit`.
    """

    folder: Path
    suites: tuple[Path, ...]
    opening: Opening = field(default_factory=Opening)
    baseline: Checkpoint | None = None
    corrupted: Checkpoint | None = None
    policy: Policy = DEFAULT
    circuit: Path | None = None


@dataclass(frozen=True)
class Unit:
    """One task of a sweep: a suite on a checkpoint.

    Attributes:
        suite: the place of the suite in `Setting.suites`.
    """

    checkpoint: Checkpoint
    suite: int


@dataclass(frozen=True)
class Found:
    """A checkpoint of a sweep.

    Attributes:
        name: as it is called in results.
        checkpoint: None where there is none to open, which `problem` has the reason of.
    """

    name: str
    checkpoint: Checkpoint | None
    problem: str = ""


def found_checkpoints(patterns: Sequence[str], start: Path | None = None) -> tuple[Found, ...]:
    """The checkpoints that paths and patterns name, each once, steps in the order of their numbers.

    A folder that matches a pattern and holds no checkpoint is found too, with the reason.

    Args:
        patterns: folders, files or hub ids, or patterns with `*`, `?`, `**` or `[...]`.
        start: the folder that relative paths start from; default the working directory.

    Raises:
        SweepError: if a pattern matches nothing.
    """
    found: dict[str, Found] = {}
    for pattern in patterns:
        for given in _matches(pattern, start or Path.cwd()):
            for one in _found(given, start):
                found.setdefault(one.name, one)
    return tuple(found.values())


def units_of(checkpoints: Iterable[Checkpoint], setting: Setting) -> tuple[Unit, ...]:
    """Every suite on every checkpoint, those of one checkpoint together."""
    return tuple(Unit(one, suite) for one in checkpoints for suite in range(len(setting.suites)))


def _matches(pattern: str, start: Path) -> list[str]:
    if not _WILD.search(pattern) or (start / pattern).exists():
        return [pattern]
    typed = Path(pattern).expanduser()
    top = Path(typed.anchor) if typed.is_absolute() else start
    there = top.glob(str(typed.relative_to(typed.anchor)))
    matched = [
        str(path if typed.is_absolute() else path.relative_to(start))
        for path in there
        if path.is_dir() or path.suffix == ".gguf"
    ]
    if not matched:
        raise SweepError(
            f"no folder matches {pattern}: give a pattern of checkpoint folders in quotes, such as "
            f"--models 'runs/*/checkpoint-*'"
        )
    return sorted(matched, key=_by_number)


def _by_number(path: str) -> list[tuple[int, str]]:
    """`checkpoint-40` before `checkpoint-100`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBER.split(path)]


def _found(given: str, start: Path | None) -> Iterator[Found]:
    try:
        yield from (Found(str(one), one) for one in find_checkpoints(given, start=start))
    except CheckpointError as error:
        yield Found(given, None, str(error))
