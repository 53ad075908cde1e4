"""What the audit says in pytest's own output: the header, the word for UNRESOLVED, and the summary of the audit.

Results travel with pytest's reports, and are sorted by where they stand in their suites, so that the
summary is the same with and without workers.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import pytest

from circuit_assertions.plugin.audited import SessionAudit
from circuit_assertions.plugin.reported import junit_properties, reported_by
from circuit_assertions.policy import DEFAULT
from circuit_assertions.printable import printable
from circuit_assertions.report import Progress, summary_lines
from circuit_assertions.report.summary import cache_lines
from circuit_assertions.report.trajectory import turning_lines
from circuit_assertions.results import AssertionResult, AuditedModel
from circuit_assertions.results.audit import ModelLimit, ReadingCounts, RefusedTest, Reported
from circuit_assertions.verdict_words import Outcome, colour_of

Status = tuple[str, str, tuple[str, dict[str, bool]]]  # category, letter, word with its colour

__all__ = ["TerminalPlugin"]


class TerminalPlugin:
    """Listens to reports, and prints what they add up to."""

    def __init__(self, audited: SessionAudit) -> None:
        self._audited = audited
        self._expected: dict[str, AssertionResult] = {}  # what was selected, by node id
        self._lines: dict[tuple[str, ...], tuple[str, int, AssertionResult]] = {}  # with the assertion's file and line
        self._models: dict[str, AuditedModel] = {}
        self._readings = ReadingCounts()
        self._refused: dict[str, tuple[str, str, int, RefusedTest]] = {}  # with model, file and line, by node id

    @property
    def lines(self) -> list[AssertionResult]:
        """The outcomes of the selected assertions, in the order of their suites; what was not run comes last.

        They are known by node id, suite, name and checkpoint, so that none is lost where two share a node id.
        """
        known = [line for _, _, line in sorted(self._lines.values(), key=lambda placed: placed[:2])]
        reported = {(line.suite, line.id, line.model) for line in known}
        unrun = (line for line in self._expected.values() if (line.suite, line.id, line.model) not in reported)
        return [*known, *(line.model_copy(update={"outcome": Outcome.NOT_RUN}) for line in unrun)]

    @property
    def models(self) -> list[AuditedModel]:
        """What is known of the checkpoints under audit, in their order."""
        names = map(str, self._audited.checkpoints)
        return [self._with_refused(self._models.get(name, AuditedModel(model=name))) for name in names]

    @property
    def readings(self) -> ReadingCounts:
        """How many readings were taken so far, and how many came from the cache."""
        self._readings += self._audited.drained()  # what was read after the last test
        return self._readings

    def _with_refused(self, model: AuditedModel) -> AuditedModel:
        placed = sorted((placed for placed in self._refused.values() if placed[0] == model.model), key=_place)
        return model.model_copy(update={"refused": tuple(test for *_, test in placed)})

    def expect(self, nodeid: str, line: AssertionResult) -> None:
        """Say that an assertion was selected."""
        self._expected[nodeid] = line

    def is_assertion(self, report: pytest.TestReport) -> bool:
        """Whether a report is about an assertion of a suite, and not about a Python test."""
        reported = reported_by(report)
        return (reported is not None and reported.of_suite) or report.nodeid in self._expected

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Show progress on long readings, past pytest's capture. Workers have nowhere to show it."""
        capture = session.config.pluginmanager.getplugin("capturemanager")
        if hasattr(session.config, "workerinput"):
            return
        progress = Progress(sys.stderr, sys.stderr.isatty())

        def show(what: str, done: int, total: int) -> None:
            with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
                progress.stream = sys.stderr
                progress(what, done, total)

        self._audited.runner.audit.progress = show

    def pytest_report_header(self) -> list[str]:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_report_header"""
        options = self._audited.options
        names = ", ".join(str(checkpoint) for checkpoint in self._audited.checkpoints)
        beside = "".join(
            f", {word} {given}"
            for word, given in (
                ("baseline", options.baseline),
                ("baseline record", options.records.baseline),
                ("corrupted", options.corrupted),
            )
            if given
        )
        return [printable(f"circuit-assertions: {names}{beside} ({options.dtype}, device {options.device})")]

    def pytest_report_teststatus(self, report: pytest.TestReport) -> Status | None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_report_teststatus"""
        reported = reported_by(report)
        if report.when == "call" and report.skipped and reported is not None:
            words = [line.counted if reported.of_suite else line.outcome for line in reported.assertions]
            shown = Outcome.WAIVED if reported.of_suite and Outcome.WAIVED in words else Outcome.UNRESOLVED
            if shown in words:
                return shown.said, shown.letter, (str(shown), {shown.colour: True})
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a report says, and show it to what writes JUnit files."""
        reported = reported_by(report)
        if reported is not None and not hasattr(self._audited.config, "workerinput"):
            report.user_properties = [*report.user_properties, *junit_properties(reported)]
        if reported is not None and not reported.of_suite:
            self._keep_python(report, reported)
        if report.when == "teardown" and reported is not None:
            self._readings += reported.readings
        if report.when == "teardown" or not self.is_assertion(report):
            return
        (line,) = reported.assertions if reported is not None else (self._expected[report.nodeid],)
        if (report.when == "setup" and not report.passed) or (reported is None and report.failed):  # its worker crashed
            reason = (reported.reason if reported is not None else "") or _reason(report)
            limit = None if reported is None else reported.limit
            outcome = Outcome.SKIPPED if report.skipped else Outcome.ERROR
            line = line.model_copy(update={"outcome": outcome, "reason": reason, "limit": limit})
        if line.outcome:
            self._keep(report, (report.nodeid, line.suite, line.id, line.model), line)

    def _keep(self, report: pytest.TestReport, key: tuple[str, ...], line: AssertionResult) -> None:
        file, number, _ = report.location
        self._lines[key] = (file, number or 0, line)
        reported = reported_by(report)
        if reported is not None and reported.model is not None:
            self._know(reported.model)

    def _keep_python(self, report: pytest.TestReport, reported: Reported) -> None:
        """Keep what a Python test expected, and by which limit of the model it failed."""
        if report.when == "call":
            for index, line in enumerate(reported.assertions):
                self._keep(report, (report.nodeid, str(index)), line)
        if reported.limit is not None and reported.model is not None:
            file, number, test = report.location
            refused = RefusedTest(test=test, limit=reported.limit)
            self._refused[report.nodeid] = (reported.model.model, file, number or 0, refused)
            self._know(reported.model)

    def _know(self, model: AuditedModel) -> None:
        known = self._models.get(model.model)
        self._models[model.model] = model if known is None else known.joined(model)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_terminal_summary"""
        if not self._lines and not self._refused:
            return
        terminalreporter.section("circuit audit")
        policy = self._audited.policy.name
        shown = "" if policy == DEFAULT.name else policy
        for text, outcome in summary_lines(self._told(), self.lines, shown):
            terminalreporter.write_line(text, **_colour(outcome))
        for text in cache_lines(self.readings, self._audited.cache_problem):
            terminalreporter.write_line(text)
        for run in self._audited.runs:
            for text, outcome in turning_lines([str(checkpoint) for checkpoint in run], self.lines):
                terminalreporter.write_line(text, **_colour(outcome))

    def _told(self) -> Iterator[AuditedModel]:
        """The checkpoints, each warning and each reason of a limit with the first that it is about."""
        warned: set[str] = set()
        limited: dict[ModelLimit, str] = {}  # to the model whose limit has its reason told
        for model in self.models:
            new = tuple(text for text in model.warnings if text not in warned)
            warned.update(new)
            limits = tuple(_once(limit, limited.setdefault(limit, model.model), model.model) for limit in model.limits)
            yield model.model_copy(update={"warnings": new, "limits": limits})


def _place(refused: tuple[str, str, int, RefusedTest]) -> tuple[str, str, int, str]:
    model, file, number, test = refused
    return model, file, number, test.test


def _once(limit: ModelLimit, first: str, model: str) -> ModelLimit:
    """A limit with its reason, or with the model of which that is told."""
    return limit if first == model else limit.model_copy(update={"reason": f"as for {first}"})


def _colour(outcome: str) -> dict[str, bool]:
    return {colour: True} if (colour := colour_of(outcome)) else {}


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr).strip()
