"""What a worker of a sweep does: judge one suite on one checkpoint.

Models stay open from one unit to the next, and nothing else does: what a unit reads must not depend on what the same
process read before, or results would differ in their last digits with the number of workers.
"""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.readings_needed import Requesting
from circuit_assertions.assertions.runner import NotApplicable, PlannedAssertion, SuiteRunner
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, DeviceError
from circuit_assertions.diagnosis.comparing_measures import ComparingMeasures
from circuit_assertions.diagnosis.suite_verdicts import Suites
from circuit_assertions.diagnosis.suites_given import suites_given
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.places import shown_path
from circuit_assertions.plugin.gate import Gate, Rules
from circuit_assertions.records.record import Record
from circuit_assertions.request import Request
from circuit_assertions.results import AssertionResult, AuditResult, PolicyUsed
from circuit_assertions.results.facts import audited_model
from circuit_assertions.results.judged import judged, planned
from circuit_assertions.sweeps.asked import Setting, Unit, units_of
from circuit_assertions.sweeps.recording import Recording, options_of
from circuit_assertions.unexpected import tell_unexpected
from circuit_assertions.verdict_words import Outcome

if TYPE_CHECKING:
    from circuit_assertions.engine import Model

__all__ = ["Done", "Shared", "audit_unit", "read_baseline"]

Shared = Sequence[tuple[Request, Reading]]  # what the first look of every assertion reads from the baseline


@dataclass(frozen=True)
class Done:
    """The outcome of a unit.

    Attributes:
        record: None where the checkpoint could not be read.
        problem: why it could not.
        of_baseline: whether it is the baseline's own record.
    """

    unit: Unit
    record: Record | None = None
    problem: str = ""
    of_baseline: bool = False


@dataclass
class _Worker:
    """What a process keeps: the suites, and open models."""

    setting: Setting
    _open: dict[Checkpoint, Model] = field(default_factory=dict)

    @cached_property
    def suites(self) -> Suites:
        """The suites, each with the circuit files that may bind its roles."""
        return suites_given(self.setting.suites, self.setting.circuit)

    def asked(self, checkpoint: Checkpoint, suite: int) -> list[PlannedAssertion]:
        """The assertions of a suite, for a checkpoint."""
        loaded, circuits = self.suites[suite]
        return [PlannedAssertion(loaded, one, checkpoint, circuits) for one in loaded.suite.assertions]

    def runner(self, shared: Shared) -> SuiteRunner:
        """What judges one unit, with the models that are open already."""
        setting = self.setting
        audit, compare = Audit(setting.opening, setting.baseline, setting.policy), None
        for checkpoint, model in self._open.items():
            audit.adopt(checkpoint, model, like=checkpoint)
        if setting.baseline is not None:
            compare = ComparingMeasures(audit, setting.baseline, setting.corrupted, audit.progress)
            for request, reading in shared:
                audit.remember(request, setting.baseline, reading)
        runner = SuiteRunner(audit, setting.baseline, compare=compare, corrupted=setting.corrupted)
        runner.compares_chat = True
        return runner

    def audit(self, unit: Unit, shared: Shared) -> Done:
        """Judge a suite on a checkpoint. What keeps the checkpoint from being read is told, and ends nothing."""
        setting = self.setting
        # By name: two that link to the same files are equal, and results have the name that a model was opened by.
        others = [one for one in (setting.baseline, setting.corrupted) if one is not None]
        names = {str(one) for one in (unit.checkpoint, *others)}
        self._open = {one: model for one, model in self._open.items() if str(one) in names}
        runner = self.runner(shared)
        try:
            with warnings.catch_warnings(action="ignore"):
                self._open_first(runner.audit, others)
                self._open[unit.checkpoint] = runner.audit.model(unit.checkpoint)
        except DeviceError:
            raise
        except CircuitAssertionsError as error:
            return Done(unit, problem=str(error))
        return Done(unit, self._record(runner, unit, setting, shared))

    def _open_first(self, audit: Audit, others: Sequence[Checkpoint]) -> None:
        """Open what every unit is compared with, before its own checkpoint, and keep it open."""
        for one in others:
            try:
                self._open[one] = audit.model(one)
            except DeviceError:
                raise
            except CircuitAssertionsError:  # every assertion that needs it reports that
                continue

    def _record(self, runner: SuiteRunner, unit: Unit, setting: Setting, shared: Shared = ()) -> Record:
        """Judge what was asked, and record it.

        Args:
            setting: what the checkpoint is compared with.
            shared: the baseline's readings, which are the checkpoint's own where it is the same one.
        """
        asked = self.asked(unit.checkpoint, unit.suite)
        recording = Recording(unit.checkpoint)
        runner.audit.keep = recording.keep
        for _, reading in shared if unit.checkpoint == setting.baseline else ():
            recording.keep(unit.checkpoint, reading)
        runner.announce(asked)
        loaded, _ = self.suites[unit.suite]
        options = options_of(setting)
        lines = tuple(_judged(runner, one, loaded.line(index), options, recording) for index, one in enumerate(asked))
        gate = Gate(Rules(), lines, baseline="" if setting.baseline is None else str(setting.baseline))
        result = AuditResult(
            policy=PolicyUsed.of(setting.policy),
            baseline=None if setting.baseline is None else str(setting.baseline),
            corrupted=None if setting.corrupted is None else str(setting.corrupted),
            models=(audited_model(runner, unit.checkpoint),),
            assertions=lines,
            gate=gate.verdict(gate.code(0)),
        )
        return recording.record(result, setting)

    def of_baseline(self) -> tuple[tuple[Done, ...], Shared]:
        """The baseline's own records, and what the first look of every assertion reads from it.

        Raises:
            CheckpointError: if it cannot be opened.
        """
        baseline = self.setting.baseline
        assert baseline is not None
        runner = self.runner(())
        with warnings.catch_warnings(action="ignore"):
            self._open[baseline] = runner.audit.model(baseline)
            asked = [one for suite in range(len(self.suites)) for one in self.asked(baseline, suite)]
            runner.announce(asked)
            requesting = Requesting(runner.audit, runner.binder)
            requesting.plan(baseline, (), without_chat=False)
            readings = tuple(_read(runner.audit, baseline, _wanted(requesting, asked)))
            units = units_of([baseline], self.setting)
            return tuple(self._of_baseline(unit) for unit in units), readings

    def _of_baseline(self, unit: Unit) -> Done:
        """The baseline's own record, which is compared with nothing."""
        alone = replace(self.setting, baseline=None, corrupted=None)
        audit = Audit(alone.opening, None, alone.policy)
        audit.adopt(unit.checkpoint, self._open[unit.checkpoint], like=unit.checkpoint)
        runner = SuiteRunner(audit, None)
        runner.compares_chat = True
        return Done(unit, self._record(runner, unit, alone), of_baseline=True)


def _judged(
    runner: SuiteRunner, asked: PlannedAssertion, line: int, options: Sequence[str], recording: Recording
) -> AssertionResult:
    suite = shown_path(asked.suite.file)
    # The command that judges this assertion alone.
    again = f"pytest {shlex.join([f'--model={asked.checkpoint}', *options, f'{suite}::{asked.assertion.id}'])}"
    to_come = planned(asked, suite, again, line=line)
    try:
        with (
            recording.timed(to_come),
            warnings.catch_warnings(action="ignore"),
            tell_unexpected(f"{asked.checkpoint} cannot be audited"),
        ):
            said = runner.judge(asked)
            recording.after(runner, asked, said)
            return judged(to_come, asked.assertion, said)
    except CircuitAssertionsError as error:
        return to_come.model_copy(update={"outcome": Outcome.ERROR.value, "reason": str(error)})


def _read(audit: Audit, baseline: Checkpoint, wanted: Iterable[Request]) -> Iterable[tuple[Request, Reading]]:
    for request in wanted:
        try:
            yield request, audit.read(request, baseline)
        except CircuitAssertionsError:  # as it is said of every assertion that needs it
            continue


def _wanted(requesting: Requesting, asked: Iterable[PlannedAssertion]) -> list[Request]:
    """The reading of each assertion that a checkpoint's is compared with."""
    wanted: list[Request] = []
    for one in asked:
        if MEASURES[one.assertion.measure].compares:
            continue
        try:
            requests = requesting.requests(one)
        except CircuitAssertionsError:  # as it is said of the assertion, on every checkpoint
            continue
        if not isinstance(requests, NotApplicable):
            wanted.append(requests[0])
    return wanted


_worker_here: list[_Worker] = []  # one at most: that of the sweep that this process works for


def audit_unit(setting: Setting, shared: Shared, unit: Unit) -> Done:
    """Judge one suite on one checkpoint, in whichever process this is.

    Args:
        shared: the readings that `read_baseline` returned; empty without a baseline.

    Raises:
        CircuitAssertionsError: if the suites or the device cannot be used.
    """
    return _worker(setting).audit(unit, shared)


def read_baseline(setting: Setting) -> tuple[tuple[Done, ...], Shared]:
    """Open the baseline and read from it what every checkpoint is compared with, once for all workers.

    Returns:
        Its own records, one for each suite, and the readings that `audit_unit` takes.

    Raises:
        CheckpointError: if it cannot be opened.
    """
    return ((), ()) if setting.baseline is None else _worker(setting).of_baseline()


def _worker(setting: Setting) -> _Worker:
    if not _worker_here or _worker_here[0].setting != setting:
        os.chdir(setting.folder)
        _worker_here[:] = [_Worker(setting)]
    return _worker_here[0]
