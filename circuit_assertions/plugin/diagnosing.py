"""The diagnosis after the verdicts: what broke beside the baseline, where it comes from, whether it healed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import LoadedSuite, load_suite
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.plugin.items import circuits_beside
from circuit_assertions.tasks import Task

if TYPE_CHECKING:
    from circuit_assertions.plugin.auditing import AuditPlugin
    from circuit_assertions.plugin.telling import TellingPlugin

__all__ = ["DiagnosingPlugin"]

_COLOURS = {
    **dict.fromkeys(("INTACT", "RECOVERED"), "green"),
    **dict.fromkeys(("AMPLIFIED", "PARTIAL", "DIFFUSE", "LOCALIZED"), "yellow"),
    **dict.fromkeys(("CORRUPTED", "BYPASSED", "NOT RECOVERED", "ERROR"), "red"),
}

Lines = list[tuple[str, str]]


class DiagnosingPlugin:
    """Diagnoses every checkpoint that was audited beside its baseline, and prints what was found."""

    def __init__(self, auditing: AuditPlugin, telling: TellingPlugin) -> None:
        self._auditing = auditing
        self._telling = telling
        self._found: list[Lines] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Before the models are closed. A run that was interrupted, or judged nothing, is not diagnosed."""
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return
        for checkpoint in self._auditing.checkpoints:
            if checkpoint != self._auditing.baseline:
                self._found += [self._diagnosed(checkpoint, suite, task) for suite, task in self._asked(checkpoint)]
                self._auditing.runner.forget(checkpoint)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_terminal_summary"""
        for number, lines in enumerate(self._found):
            terminalreporter.section("circuit diagnosis") if number == 0 else terminalreporter.write_line("")
            for text, verdict in lines:
                colour = {_COLOURS[verdict]: True} if verdict in _COLOURS else {}
                terminalreporter.write_line(text, **colour)

    def _asked(self, checkpoint: Checkpoint) -> Iterator[tuple[LoadedSuite, Task]]:
        """The suites that a checkpoint was judged by, each circuit once, with a task that can be patched."""
        start, seen = self._auditing.config.invocation_params.dir, set()
        judged = [
            line.suite for line in self._telling.lines if line.model == str(checkpoint) and line.outcome != "ERROR"
        ]
        for name in dict.fromkeys(judged):
            suite = load_suite(start / name, circuits_beside(start / name))
            tasks = [task for task in suite.suite.tasks.values() if {"answer", "counterfactual"} <= task.offers]
            if tasks and suite.circuit not in seen:
                seen.add(suite.circuit)
                yield suite, tasks[0]

    def _diagnosed(self, checkpoint: Checkpoint, suite: LoadedSuite, task: Task) -> Lines:
        from circuit_assertions.diagnosis.diagnosing import diagnose
        from circuit_assertions.report.diagnosed import diagnosis_lines

        runner, baseline = self._auditing.runner, self._auditing.baseline
        assert baseline is not None
        try:
            with warnings.catch_warnings(action="ignore"):
                bound = runner.binding(checkpoint, suite.circuit, circuits_beside(suite.file))
                return list(
                    diagnosis_lines(
                        diagnose(
                            runner.audit,
                            checkpoint,
                            baseline,
                            task,
                            {} if bound is None else bound.circuit.roles,
                            circuit=suite.circuit,
                            corrupted=self._auditing.corrupted,
                            tell=runner.audit.progress,
                        )
                    )
                )
        except CircuitAssertionsError as error:
            return [(f"{checkpoint} could not be diagnosed by {suite.circuit}: {error}", "ERROR")]
