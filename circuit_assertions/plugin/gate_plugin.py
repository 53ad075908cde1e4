"""The gate in a pytest session: it counts what is reported, decides the exit code, and prints the last line."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from circuit_assertions.files import NotWrittenError
from circuit_assertions.plugin.audited import SessionAudit
from circuit_assertions.plugin.diagnosis_section import DiagnosingPlugin
from circuit_assertions.plugin.gate import FAILED, Gate, Rules, fails
from circuit_assertions.plugin.github_step import GitHubStep
from circuit_assertions.plugin.items import AssertionItem, selected_line
from circuit_assertions.plugin.output_files import asked_outputs, audit_result, write_output
from circuit_assertions.plugin.recording import RecordingPlugin
from circuit_assertions.plugin.showing_step import ShowingPlugin
from circuit_assertions.plugin.terminal import TerminalPlugin
from circuit_assertions.printable import printable
from circuit_assertions.report.outputs import OutputError
from circuit_assertions.results import AuditResult
from circuit_assertions.results.circuit_shown import CircuitShown
from circuit_assertions.verdict_words import GateResult

__all__ = ["GatePlugin"]

_AUDIT = "circuit_audit"  # the keyword of Python tests that use the `audit` fixture; reports carry it to the controller


class GatePlugin:
    """Decides the outcome of the run. Workers have none: their reports arrive at the controller, which decides."""

    def __init__(self, audited: SessionAudit, telling: TerminalPlugin) -> None:
        self._audited = audited
        self._telling = telling
        self._running = False
        self._others_failed = 0
        self._audits_passed = 0
        self._not_collected = 0
        self._unwritten = 0
        self._outputs = asked_outputs(audited)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """A run begins, and nothing that only lists."""
        option = session.config.option
        only_listed = option.collectonly or getattr(option, "setuponly", False) or getattr(option, "setupplan", False)
        self._running = not only_listed

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_collectreport"""
        self._not_collected += report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Note what was selected. With workers, they report it."""
        for item in session.items:
            if isinstance(item, AssertionItem):
                self._telling.expect(item.nodeid, item.to_come)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """https://pytest-xdist.readthedocs.io: what a worker has selected; all select the same."""
        for nodeid in ids:
            line = selected_line(nodeid, self._audited)
            if line is not None:
                self._telling.expect(nodeid, line)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what is not an assertion of a suite, which includes a fixture that fails in tear-down."""
        if self._telling.is_assertion(report) and report.when != "teardown":
            return
        self._others_failed += report.failed
        self._audits_passed += report.when == "call" and report.passed and _AUDIT in report.keywords

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Decide before pytest's summary, and again with the diagnosis; print after pytest's last line."""
        self._decide(session)
        result = yield
        self._decide(session)
        if self._running:
            self._write(session)
            self._say(int(session.exitstatus))
        return result

    def _write(self, session: pytest.Session) -> None:
        """Write the outputs that were asked for, and the record. Where one cannot be written, the run fails."""
        recording, step = self._recording, GitHubStep.of(os.environ, self._audited.config.invocation_params.dir)
        if not self._outputs and not step.shows_anything and recording is None:
            return
        gate, result = self._gate(), self.result(int(session.exitstatus))
        for asked in self._outputs:
            self._written(session, partial(write_output, asked, result))
        if recording is not None:
            self._written(session, lambda: self._tell_record(recording.save(result)))
        for text in step.tell(result, [line for line in gate.lines if fails(line, gate.rules)]):
            self._print(text)

    def _written(self, session: pytest.Session, write: Callable[[], None]) -> None:
        try:
            write()
        except (NotWrittenError, OutputError) as error:
            self._unwritten += 1
            session.exitstatus = session.exitstatus or FAILED
            self._print(str(error), red=True)

    def _tell_record(self, file: Path | None) -> None:
        if file is not None:
            self._print(f"record    {os.path.relpath(file, self._audited.config.invocation_params.dir)}")

    def _print(self, text: str, **colours: bool) -> None:
        terminal = self._audited.config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None:
            terminal.write_line(printable(text), **colours)

    def result(self, code: int) -> AuditResult:
        """The result of the audit so far.

        Args:
            code: the exit code of the run.
        """
        outcome = self._gate().verdict(code)
        diagnoses = () if self._diagnosing is None else tuple(self._diagnosing.results)
        return audit_result(self._audited, self._telling, outcome, diagnoses, self._circuits)

    def _decide(self, session: pytest.Session) -> None:
        if self._running:
            session.exitstatus = self._gate().code(int(session.exitstatus))

    def _gate(self) -> Gate:
        options, baseline = self._audited.options, self._audited.baseline
        diagnosing = self._diagnosing
        return Gate(
            Rules(options.unresolved, options.skipped),
            self._telling.lines,
            others_failed=self._others_failed,
            audits_passed=self._audits_passed,
            not_collected=self._not_collected,
            diagnosed=diagnosing is not None and diagnosing.has_found,
            lost="" if diagnosing is None else diagnosing.failing,
            baseline="" if baseline is None or self._audited.recorded is not None else str(baseline),
            unwritten=self._unwritten,
        )

    @property
    def shows_circuits(self) -> bool:
        """Whether an output shows head effects and attention."""
        return any(asked.shows_circuits for asked in self._outputs)

    @property
    def _circuits(self) -> tuple[CircuitShown, ...]:
        """What was read for outputs that show it."""
        found = self._audited.config.pluginmanager.getplugin("circuit_assertions_showing")
        return tuple(found.results) if isinstance(found, ShowingPlugin) else ()

    @property
    def _recording(self) -> RecordingPlugin | None:
        """What keeps the readings of the session; None where nothing does."""
        found = self._audited.config.pluginmanager.getplugin("circuit_assertions_recording")
        return found if isinstance(found, RecordingPlugin) else None

    @property
    def _diagnosing(self) -> DiagnosingPlugin | None:
        """What diagnoses after the verdicts; None where nothing does."""
        found = self._audited.config.pluginmanager.getplugin("circuit_assertions_diagnosing")
        return found if isinstance(found, DiagnosingPlugin) else None

    def _say(self, code: int) -> None:
        terminal = self._audited.config.pluginmanager.getplugin("terminalreporter")
        if terminal is None:
            return
        gate, result = self._gate(), GateResult.FAIL if code else GateResult.PASS
        terminal.write_line(printable(gate.line(code)), bold=True, **{result.colour: True})
        if what := gate.next(code):
            terminal.write_line(printable(what))


def note_audit(item: pytest.Item) -> None:
    """Mark a Python test that uses the `audit` fixture, so that its report can be recognised."""
    if isinstance(item, pytest.Function) and "circuit_checkpoint" in item.fixturenames:
        item.keywords[_AUDIT] = True
