"""What the audit says in pytest's own output: the header, the word for UNRESOLVED, and the summary of the audit.

Verdicts travel with pytest's reports, as plain values, and are sorted by where they stand in their suites, so that the
summary is the same with and without workers.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from circuit_assertions.assertions.outcomes import ERROR, NOT_RUN, OUTCOMES, SKIPPED, UNRESOLVED, WAIVED
from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.plugin.audited import SessionAudit
from circuit_assertions.printable import printable
from circuit_assertions.report import Audited, AuditLine, Progress, summary_lines
from circuit_assertions.report.trajectory import turning_lines

Status = tuple[str, str, tuple[str, dict[str, bool]]]  # category, letter, word with its colour

__all__ = ["EXPECTED", "FACTS", "LINE", "REASON", "TerminalPlugin", "facts_of", "record"]

LINE = "circuit_assertion"
FACTS = "circuit_model"
EXPECTED = "circuit_expectations"  # of a Python test, their lines
REASON = "circuit_error"  # in full, also where the report only points at the first one

_FACTS_IN_ORDER = ("", "weights", "note", "baseline", "settings", "corrupted", "circuit", "limits", "warning")


def record(item: pytest.Item, name: str, value: Any) -> None:
    """Attach a value to an item's report, in place of an earlier one of the same name. JUnit files carry it too."""
    item.user_properties[:] = [pair for pair in item.user_properties if pair[0] != name]
    item.user_properties.append((name, json.dumps(value)))


def facts_of(runner: SuiteRunner, checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """The facts about a model that the summary shows before its verdicts."""
    model = runner.audit.model(checkpoint)
    layout, source = model.layout, model.source
    shape = f"{source.architecture}, {layout.layers} layers x {layout.heads} heads, d_model {layout.d_model}"
    facts = [
        ("", f"{shape}, {str(source.dtype).removeprefix('torch.')} on {source.device}"),
        ("weights", source.fingerprint[:16]),
        *(("note", note) for note in source.notes),
    ]
    if runner.baseline is not None:
        baseline = runner.audit.model(runner.baseline).source
        facts.append(("baseline", f"{runner.baseline}  {baseline.fingerprint[:16]}"))
        facts += [("note", f"of the baseline: {note}") for note in baseline.notes if checkpoint != runner.baseline]
        facts += [("settings", difference) for difference in baseline.function.differences(source.function)]
    if runner.unfit:
        facts.append(("corrupted", f"{runner.corrupted}: recovery cannot be measured: {runner.unfit}"))
    bound = {str(binding) for (owner, *_), binding in runner.bindings.items() if owner == checkpoint and binding}
    facts += [("circuit", text) for text in sorted(bound)]
    facts += [("limits", reason) for reason in dict.fromkeys(model.limits.values())]
    facts += [("warning", text) for text in runner.unread]
    return [(label, printable(text)) for label, text in facts]


class TerminalPlugin:
    """Listens to reports, and prints what they add up to."""

    def __init__(self, audited: SessionAudit) -> None:
        self._audited = audited
        self._expected: dict[str, AuditLine] = {}  # what was selected, by node id
        self._lines: dict[tuple[str, ...], tuple[str, int, AuditLine]] = {}  # with the assertion's file and line
        self._facts: dict[str, dict[str, str]] = {}

    @property
    def lines(self) -> list[AuditLine]:
        """The outcomes of the selected assertions, in the order of their suites; what was not run comes last.

        They are known by node id, suite, name and checkpoint, so that none is lost where two share a node id.
        """
        known = [line for _, _, line in sorted(self._lines.values(), key=lambda placed: placed[:2])]
        reported = {(line.suite, line.id, line.model) for line in known}
        unrun = (line for line in self._expected.values() if (line.suite, line.id, line.model) not in reported)
        return [*known, *(replace(line, outcome=NOT_RUN) for line in unrun)]

    def expect(self, nodeid: str, line: AuditLine) -> None:
        """Say that an assertion was selected."""
        self._expected[nodeid] = line

    def is_assertion(self, report: pytest.TestReport) -> bool:
        """Whether a report is about an assertion of a suite, and not about a Python test."""
        return _read(report, LINE) is not None or report.nodeid in self._expected

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
            for word, given in (("baseline", options.baseline), ("corrupted", options.corrupted))
            if given
        )
        return [printable(f"circuit-assertions: {names}{beside} ({options.dtype}, device {options.device})")]

    def pytest_report_teststatus(self, report: pytest.TestReport) -> Status | None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_report_teststatus"""
        if report.when == "call" and report.skipped:
            line = _read(report, LINE)
            shown = OUTCOMES.get(AuditLine(**line).counted) if line is not None else None
            if UNRESOLVED in [one["outcome"] for one in _read(report, EXPECTED) or []]:
                shown = OUTCOMES[UNRESOLVED]
            if shown is not None and shown.word in (UNRESOLVED, WAIVED):
                return shown.said, shown.letter, (shown.word, {shown.colour: True})
        return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_runtest_logreport"""
        for index, one in enumerate((_read(report, EXPECTED) or []) if report.when == "call" else []):
            file, number, _ = report.location
            line = AuditLine(**one)
            self._lines[(report.nodeid, str(index))] = (file, number or 0, line)
            self._facts.setdefault(line.model, {}).update({text: label for label, text in _read(report, FACTS) or []})
        plain = _read(report, LINE)
        if report.when == "teardown" or not self.is_assertion(report):
            return
        line = AuditLine(**plain) if plain is not None else self._expected[report.nodeid]
        if (report.when == "setup" and not report.passed) or (plain is None and report.failed):  # or its worker crashed
            reason = _read(report, REASON) or _reason(report)
            line = replace(line, outcome=SKIPPED if report.skipped else ERROR, reason=reason)
        if line.outcome:
            file, number, _ = report.location
            key = (report.nodeid, line.suite, line.id, line.model)
            self._lines[key] = (file, number or 0, line)
            known = self._facts.setdefault(line.model, {})
            known.update({text: label for label, text in _read(report, FACTS) or []})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_terminal_summary"""
        if not self._lines:
            return
        terminalreporter.section("circuit audit")
        models = [str(checkpoint) for checkpoint in self._audited.checkpoints]
        for text, outcome in summary_lines(self._models(models), self.lines):
            terminalreporter.write_line(text, **_colour(outcome))
        for run in self._audited.runs:
            for text, outcome in turning_lines([str(checkpoint) for checkpoint in run], self.lines):
                terminalreporter.write_line(text, **_colour(outcome))

    def _models(self, models: list[str]) -> Iterator[Audited]:
        warned: set[str] = set()
        for model in models:
            facts = [(label, text) for text, label in self._facts.get(model, {}).items() if text not in warned]
            warned |= {text for label, text in facts if label == "warning"}
            yield Audited(model, sorted(facts, key=lambda fact: (_FACTS_IN_ORDER.index(fact[0]), fact[1])))


def _colour(outcome: str) -> dict[str, bool]:
    return {OUTCOMES[outcome].colour: True} if outcome in OUTCOMES else {}


def _read(report: pytest.TestReport, name: str) -> Any:
    for key, value in report.user_properties:
        if key == name:
            return json.loads(str(value))
    return None


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr).strip()
