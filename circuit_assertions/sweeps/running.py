"""A sweep from its start to its result: what is kept already, what is left to do, and the comparison of it all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from circuit_assertions.checkpoints import Checkpoint, step_of
from circuit_assertions.diagnosis.bisecting import bisect
from circuit_assertions.files import NotWrittenError
from circuit_assertions.places import shown_path
from circuit_assertions.results import AuditResult, PolicyUsed, SweepResult
from circuit_assertions.results.sweep import SweptCheckpoint, swept, swept_checkpoint
from circuit_assertions.sweeps.asked import Found, Setting, Unit, units_of
from circuit_assertions.sweeps.auditing import Done
from circuit_assertions.sweeps.errors import SweepError
from circuit_assertions.sweeps.kept_records import KeptRecords

__all__ = ["Sweep", "Workers"]


class Workers(Protocol):
    """What judges units: local processes, or Ray."""

    @property
    def called(self) -> str:
        """What works, in words."""

    def run(self, setting: Setting, units: Sequence[Unit]) -> Iterator[Done]:
        """Judge units, and hand each out when it is done."""

    def close(self) -> None:
        """End the workers."""


@dataclass
class Sweep:
    """A sweep. Each record is kept as soon as it is there.

    Attributes:
        tell: told of every checkpoint that is done.
        swept: each checkpoint that is done, by name.
        reused: how many records were there before.
    """

    found: Sequence[Found]
    kept: KeptRecords
    workers: Workers
    tell: Callable[[SweptCheckpoint], None] = lambda one: None
    swept: dict[str, SweptCheckpoint] = field(default_factory=dict)
    reused: int = 0
    # Of checkpoints that are not done yet, by the suite's place: the record's file, and what it says.
    _results: dict[str, dict[int, tuple[Path, AuditResult]]] = field(default_factory=dict)

    @property
    def setting(self) -> Setting:
        """How everything is judged."""
        return self.kept.setting

    def run(self) -> None:
        """Audit every checkpoint.

        Raises:
            SweepError: if a record cannot be written.
            CircuitAssertionsError: if the baseline, the suites or the device cannot be used.
        """
        self.audit(self.found)

    def bisect(self) -> None:
        """Audit those checkpoints of each run that finding the turns needs, and all that belong to no run.

        Raises:
            SweepError, CircuitAssertionsError: as `run`.
        """
        runs: dict[str, list[Found]] = {}
        for one in self.found:
            if step_of(one.name) is not None:
                runs.setdefault(str(Path(one.name).parent), []).append(one)
        self.audit([one for one in self.found if step_of(one.name) is None])
        for run in runs.values():
            bisect(len(run), lambda place, run=run: self._verdicts(run[place]))  # type: ignore[misc]

    def audit(self, found: Iterable[Found]) -> None:
        """Audit some checkpoints.

        Raises:
            SweepError, CircuitAssertionsError: as `run`.
        """
        there: list[Checkpoint] = []
        for one in found:
            if one.checkpoint is None:
                self._finish(swept_checkpoint(one.name, {}, problem=one.problem))
            else:
                there.append(one.checkpoint)
        left = []
        for unit in units_of(there, self.setting):
            known = self.kept.read(unit)
            if known is None:
                left.append(unit)
            else:
                self.reused += 1
                self._add(unit, *known)
        for done in self.workers.run(self.setting, left):
            self._take(done)

    def result(self, bisected: bool = False) -> SweepResult:
        """The comparison of all checkpoints that are done so far."""
        setting = self.setting
        rows = [
            self.swept.get(one.name) or swept_checkpoint(one.name, {}, looked_at=False, problem="")
            for one in self.found
        ]
        return swept(
            rows,
            engine=self.workers.called,
            suites=tuple(shown_path(suite) for suite in setting.suites),
            policy=PolicyUsed.of(setting.policy),
            baseline=None if setting.baseline is None else str(setting.baseline),
            corrupted=None if setting.corrupted is None else str(setting.corrupted),
            reused=self.reused,
            bisected=bisected,
        )

    def _verdicts(self, one: Found) -> Mapping[str, str] | None:
        """The verdicts on a checkpoint, for bisection; None where it cannot be read."""
        self.audit([one])
        done = self.swept[one.name]
        return None if done.problem else {name: said.outcome for name, said in done.assertions.items()}

    def _take(self, done: Done) -> None:
        name = str(done.unit.checkpoint)
        if done.record is None:
            if name not in self.swept:
                self._results.pop(name, None)
                self._finish(swept_checkpoint(name, {}, problem=done.problem))
            return
        try:
            if done.of_baseline:
                self.kept.write_baseline(done.unit, done.record)
                return
            file = self.kept.write(done.unit, done.record)
        except NotWrittenError as error:
            raise SweepError(
                f"{error}; the records that were finished are kept in {self.kept.folder}: the same command continues"
            ) from error
        self._add(done.unit, file, done.record.audit)

    def _add(self, unit: Unit, file: Path, result: AuditResult) -> None:
        name = str(unit.checkpoint)
        results = self._results.setdefault(name, {})
        results[unit.suite] = (file, result)
        if len(results) == len(self.setting.suites):
            self._finish(swept_checkpoint(name, {str(file): one for _, (file, one) in sorted(results.items())}))
            del self._results[name]

    def _finish(self, one: SweptCheckpoint) -> None:
        self.swept[one.checkpoint] = one
        self.tell(one)
