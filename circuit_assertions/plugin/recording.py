"""`--circuit-save` and `--circuit-compare`: the readings of a session, gathered for a record.

Every process gathers what it reads itself. Workers send it to the controller with their reports.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from circuit_assertions.assertions import Judgement
from circuit_assertions.assertions.further_readings import take_further, without_consequences
from circuit_assertions.assertions.runner import PlannedAssertion
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.plugin.audited import SessionAudit
from circuit_assertions.plugin.reported import reported_by
from circuit_assertions.records.building import About, Judged, build
from circuit_assertions.records.gathering import Gathered, Sent
from circuit_assertions.records.paths import Shortening
from circuit_assertions.records.record import Record
from circuit_assertions.records.store import save
from circuit_assertions.results import AuditResult
from circuit_assertions.tasks import TO_PATCH

__all__ = ["RecordingPlugin"]

_ATTRIBUTE = "circuit_readings"


class RecordingPlugin:
    """Gathers the readings of the checkpoints under audit."""

    def __init__(self, audited: SessionAudit) -> None:
        self._audited = audited
        self._worker = hasattr(audited.config, "workerinput")
        self._gathered = Gathered()
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        self._seconds: dict[str, float] = {}  # by node id
        self._judged: dict[str, list[Judged]] = {}
        self._read: set[tuple[Checkpoint, str]] = set()  # whose circuit's heads were read
        audited.runner.audit.keep = self.keep

    def keep(self, checkpoint: Checkpoint, reading: Reading) -> None:
        """Keep a reading, if it is of a checkpoint under audit."""
        if checkpoint in self._audited.checkpoints:
            self._gathered.take(str(checkpoint), reading)

    def after(self, asked: PlannedAssertion, judged: object) -> None:
        """Keep what an assertion was judged by, and take what a run beside this checkpoint would need besides."""
        if isinstance(judged, Judgement) and MEASURES[asked.assertion.measure].compares:
            self.keep(asked.checkpoint, judged.reading)
        if self._audited.options.records.save is None:
            return
        key = (asked.checkpoint, asked.suite.circuit)
        diagnosed = self._audited.baseline is not None or not self._audited.options.diagnosis
        with without_consequences():
            take_further(self._audited.runner, asked, self._audited.options.records.prompts)
        if diagnosed or key in self._read:
            return
        self._read.add(key)
        with without_consequences():
            self._read_circuit(asked)

    def _read_circuit(self, asked: PlannedAssertion) -> None:
        """Read the circuit's heads as a diagnosis does, which this checkpoint may be the baseline of."""
        from circuit_assertions.assertions.chains import chain_for
        from circuit_assertions.diagnosis.asked import compared_task
        from circuit_assertions.diagnosis.function import read_functions
        from circuit_assertions.diagnosis.view import View

        runner, suite = self._audited.runner, asked.suite
        tasks = [task for task in suite.suite.tasks.values() if task.offers >= TO_PATCH]
        bound = runner.binding(asked.checkpoint, suite.circuit, asked.circuits) if tasks else None
        if bound is not None:
            _, task = compared_task(tasks[0], self._audited.policy)
            view = View(runner.audit, asked.checkpoint, task)
            read_functions(chain_for(tasks[0], suite.circuit), bound.circuit.roles, view)

    # -- reports ------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A worker's report carries what the worker has read since its last one."""
        report = yield
        if self._worker and (sent := self._gathered.drain()).readings:
            report.__dict__[_ATTRIBUTE] = sent.model_dump_json()
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in what a worker has read, and how long the test took."""
        if self._worker:
            return
        text = report.__dict__.pop(_ATTRIBUTE, None)
        if text is not None:
            self._gathered.add(Sent.model_validate_json(text))
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration
        reported = reported_by(report)
        if reported is not None:
            self._judged[report.nodeid] = [(one.suite, one.id, one.model) for one in reported.assertions]

    # -- the record ---------------------------------------------------------------------------------------------

    def record(self, result: AuditResult) -> Record:
        """The record of the session so far."""
        options, config = self._audited.options, self._audited.config
        places = [*map(str, self._audited.checkpoints), options.baseline, options.corrupted, options.tokenizer]
        shortening = Shortening(
            config.invocation_params.dir, options.records.redact, tuple(place for place in places if place)
        )
        seconds = {key: self._seconds[nodeid] for nodeid, keys in self._judged.items() for key in keys}
        about = About(
            started=self._started,
            seconds=time.monotonic() - self._clock,
            shortening=shortening,
            label=options.records.save or "",
            options=tuple(options.spelled_out),
            seconds_of=seconds,
        )
        return build(result, self._gathered, about)

    def save(self, result: AuditResult) -> Path | None:
        """Write the record where one was asked for. Returns its file.

        Raises:
            NotWrittenError: if it cannot be written.
        """
        if self._audited.options.records.save is None:
            return None
        folder: Any = self._audited.config.invocation_params.dir / self._audited.options.records.folder
        return save(Path(folder), self.record(result))
