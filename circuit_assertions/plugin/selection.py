"""What a session was given to audit: checkpoints, the ones that they are compared with, and suites."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from circuit_assertions.assertions import Circuit
from circuit_assertions.assertions.packaged import circuits_beside, packaged_suites
from circuit_assertions.checkpoints import Checkpoint, CheckpointError, find_checkpoints
from circuit_assertions.places import CHAINS, CIRCUITS, suite_path
from circuit_assertions.plugin.options import Options
from circuit_assertions.printable import printable

__all__ = ["ChosenCheckpoints", "ChosenSuites", "chosen_checkpoints", "labels_of"]


@dataclass(frozen=True)
class ChosenCheckpoints:
    """The checkpoints of a session.

    Attributes:
        checkpoints: those under audit, each once.
        runs: the training runs among them.
    """

    checkpoints: tuple[Checkpoint, ...]
    runs: tuple[tuple[Checkpoint, ...], ...]
    baseline: Checkpoint | None
    corrupted: Checkpoint | None


def chosen_checkpoints(options: Options, start: Path) -> ChosenCheckpoints:
    """The checkpoints that the options name.

    Args:
        start: the folder that relative paths start from.

    Raises:
        pytest.UsageError: if one does not exist or cannot serve as a baseline, or `--corrupted` lacks a baseline.
    """
    try:
        found = [find_checkpoints(model, start=start) for model in options.models]
        baseline = find_checkpoints(options.baseline, start=start) if options.baseline else ()
        corrupted = find_checkpoints(options.corrupted, start=start) if options.corrupted else ()
    except CheckpointError as error:
        raise pytest.UsageError(str(error)) from error
    for option, given, one in (
        ("--baseline", options.baseline, baseline),
        ("--corrupted", options.corrupted, corrupted),
    ):
        if len(one) > 1:
            raise pytest.UsageError(printable(f"{option} {given} is a training run: name one of its checkpoints"))
    if corrupted and not baseline:
        raise pytest.UsageError("--corrupted measures recovery and needs --baseline as well")
    return ChosenCheckpoints(
        checkpoints=tuple(dict.fromkeys(one for run in found for one in run)),
        runs=tuple(dict.fromkeys(run for run in found if len(run) > 1)),
        baseline=baseline[0] if baseline else None,
        corrupted=corrupted[0] if corrupted else None,
    )


def labels_of(checkpoints: tuple[Checkpoint, ...]) -> dict[Checkpoint, str]:
    """The short name of each checkpoint, or all that was typed where short names collide; empty for a single one."""
    if len(checkpoints) == 1:
        return {checkpoints[0]: ""}
    short = {one: one.label or Path(one.given).name or one.given for one in checkpoints}
    uses = Counter(short.values())
    return {one: printable(name if uses[name] == 1 else str(one)) for one, name in short.items()}


class ChosenSuites:
    """The suites of a session, and the circuit files that belong to them."""

    def __init__(self, config: pytest.Config, options: Options) -> None:
        self._config = config
        self._options = options

    def choose(self) -> None:
        """Where no test path was given, run the suites and not the project's own tests."""
        if self._config.args_source is pytest.Config.ArgsSource.ARGS:
            self._config.args[:] = [self._argument(arg) for arg in self._config.args]
            return
        self._config.args[:] = [str(path) for path in self.paths]

    @staticmethod
    def _argument(argument: str) -> str:
        """A test path as pytest reads it: `packaged:ioi.yaml::id` with the file's own path."""
        path, found, name = argument.partition("::")
        return argument if suite_path(path) == Path(path) else f"{suite_path(path)}{found}{name}"

    @cached_property
    def paths(self) -> list[Path]:
        """What is run where no test path is given: files, or folders of suites."""
        if self._options.suites:
            return [suite_path(path, self._config.invocation_params.dir) for path in self._options.suites]
        return [self._own] if _holds_suites(self._own) else [packaged_suites()]

    def circuits_of(self, *suites: Path) -> tuple[Circuit, ...]:
        """The circuits that may bind the roles of these suites."""
        return circuits_beside(*suites, own=self._own)

    @cached_property
    def _own(self) -> Path:
        """The person's own folder of suites and circuits: the root's, else the working folder's."""
        of_root = self._config.rootpath / "suites"
        return of_root if of_root.is_dir() else self._config.invocation_params.dir / "suites"


def _holds_suites(folder: Path) -> bool:
    """Whether a folder has suites or tests: `discover` makes one to put its circuit file into, and nothing else."""
    suites = (path for path in folder.rglob("*.y*ml") if path.parent.name not in (CIRCUITS, CHAINS))
    return any(suites) or any(folder.rglob("*.py"))
