"""`--circuit-compare=RUN`: how this run differs from a record, printed at its end. It has no effect on the gate."""

from __future__ import annotations

import pytest

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.plugin.audited import SessionAudit
from circuit_assertions.plugin.gate_plugin import GatePlugin
from circuit_assertions.plugin.record_given import record_named
from circuit_assertions.plugin.recording import RecordingPlugin
from circuit_assertions.printable import printable
from circuit_assertions.records.comparing import compare
from circuit_assertions.records.failing import DEFAULT_FAIL
from circuit_assertions.report.compared import comparison_lines
from circuit_assertions.verdict_words import colour_of

__all__ = ["ComparisonPlugin"]


class ComparisonPlugin:
    """Compares the session with a record, which is read before any work."""

    def __init__(self, audited: SessionAudit, gate: GatePlugin, recording: RecordingPlugin) -> None:
        self._gate = gate
        self._recording = recording
        options = audited.options
        assert options.records.compare is not None
        start = audited.config.invocation_params.dir
        self._before = record_named(options.records.compare, options, start, "--circuit-compare")

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_terminal_summary"""
        result = self._gate.result(int(exitstatus))
        if not result.assertions:
            return
        terminalreporter.section("circuit comparison")
        try:
            now = self._recording.record(result)
            for text, verdict in comparison_lines(compare(self._before, now, DEFAULT_FAIL)):
                colour = colour_of(verdict)
                terminalreporter.write_line(text, **({colour: True} if colour else {}))
        except CircuitAssertionsError as error:
            terminalreporter.write_line(printable(f"the comparison could not be made: {error}"), red=True)
