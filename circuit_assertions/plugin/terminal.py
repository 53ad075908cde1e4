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
from typing import TYPE_CHECKING, Any

import pytest

from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.printable import printable
from circuit_assertions.report import Audited, AuditLine, Progress, summary_lines
from circuit_assertions.report.trajectory import turning_lines
from circuit_assertions.verdict_words import Outcome, colour_of

if TYPE_CHECKING:
    from circuit_assertions.plugin.session import AuditPlugin

Status = tuple[str, str, tuple[str, dict[str, bool]]]  # category, letter, word with its colour

__all__ = ["EXPECTED", "FACTS", "LIMIT", "LINE", "REASON", "TerminalPlugin", "facts_of", "record"]

LINE = "circuit_assertion"
FACTS = "circuit_model"
EXPECTED = "circuit_expectations"  # of a Python test, their lines
LIMIT = "circuit_limit"  # by which a test cannot be measured: its model, the limit's name, the measure
REASON = "circuit_error"  # in full, also where the report only points at the first one

_FACTS_IN_ORDER = ("", "weights", "note", "baseline", "settings", "corrupted", "circuit", "limits", "warning")


def record(item: pytest.Item, name: str, value: Any) -> None:
    """Attach a value to an item's report, in place of an earlier one of the same name. JUnit files carry it too."""
    item.user_properties[:] = [pair for pair in item.user_properties if pair[0] != name]
    item.user_properties.append((name, json.dumps(value)))


def facts_of(runner: SuiteRunner, checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """The facts about a model that the summary shows before its verdicts."""
    model = runner.audit.model(checkpoint)
    shape, source = model.shape, model.source
    facts = [
        ("", f"{shape.architecture}, {shape.size}, {str(source.dtype).removeprefix('torch.')} on {source.device}"),
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
    facts += [("limits", f"{limit.name}: {limit.reason}") for limit in dict.fromkeys(model.limits.values())]
    facts += [("warning", text) for text in runner.unread]
    return [(label, printable(text)) for label, text in facts]


class TerminalPlugin:
    """Listens to reports, and prints what they add up to."""

    def __init__(self, auditing: AuditPlugin) -> None:
        self._auditing = auditing
        self._expected: dict[str, AuditLine] = {}  # what was selected, by node id
        self._lines: dict[tuple[str, ...], tuple[str, int, AuditLine]] = {}  # with the assertion's file and line
        self._facts: dict[str, dict[str, str]] = {}
        self._refused: dict[str, tuple[str, int, list[str]]] = {}  # Python tests that a limit refuses, by node id

    @property
    def lines(self) -> list[AuditLine]:
        """The outcomes of the selected assertions, in the order of their suites; what was not run comes last.

        They are known by node id, suite, name and checkpoint, so that none is lost where two share a node id.
        """
        known = [line for _, _, line in sorted(self._lines.values(), key=lambda placed: placed[:2])]
        reported = {(line.suite, line.id, line.model) for line in known}
        unrun = (line for line in self._expected.values() if (line.suite, line.id, line.model) not in reported)
        return [*known, *(replace(line, outcome=Outcome.NOT_RUN) for line in unrun)]

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

        self._auditing.runner.audit.progress = show

    def pytest_report_header(self) -> list[str]:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_report_header"""
        options = self._auditing.options
        names = ", ".join(str(checkpoint) for checkpoint in self._auditing.checkpoints)
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
            shown = Outcome.of(AuditLine(**line).counted) if line is not None and line["outcome"] else None
            if Outcome.UNRESOLVED in [one["outcome"] for one in _read(report, EXPECTED) or []]:
                shown = Outcome.UNRESOLVED
            if shown in (Outcome.UNRESOLVED, Outcome.WAIVED):
                return shown.said, shown.letter, (str(shown), {shown.colour: True})
        return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_runtest_logreport"""
        for index, one in enumerate((_read(report, EXPECTED) or []) if report.when == "call" else []):
            file, number, _ = report.location
            line = AuditLine(**one)
            self._lines[(report.nodeid, str(index))] = (file, number or 0, line)
            self._facts.setdefault(line.model, {}).update({text: label for label, text in _read(report, FACTS) or []})
        plain, limited = _read(report, LINE), _read(report, LIMIT)
        if limited and not self.is_assertion(report):
            file, number, name = report.location
            self._refused[report.nodeid] = (file, number or 0, [*limited, name])
            self._facts.setdefault(limited[0], {}).update({text: label for label, text in _read(report, FACTS)})
        if report.when == "teardown" or not self.is_assertion(report):
            return
        line = AuditLine(**plain) if plain is not None else self._expected[report.nodeid]
        if (report.when == "setup" and not report.passed) or (plain is None and report.failed):  # or its worker crashed
            reason = _read(report, REASON) or _reason(report)
            line = replace(line, outcome=Outcome.SKIPPED if report.skipped else Outcome.ERROR, reason=reason)
            line = replace(line, limit=limited[1], measure=limited[2]) if limited else line
        if line.outcome:
            file, number, _ = report.location
            key = (report.nodeid, line.suite, line.id, line.model)
            self._lines[key] = (file, number or 0, line)
            known = self._facts.setdefault(line.model, {})
            known.update({text: label for label, text in _read(report, FACTS) or []})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_terminal_summary"""
        if not self._lines and not self._refused:
            return
        terminalreporter.section("circuit audit")
        models = [str(checkpoint) for checkpoint in self._auditing.checkpoints]
        for text, outcome in summary_lines(self._audited(models), self.lines):
            terminalreporter.write_line(text, **_colour(outcome))
        for run in self._auditing.runs:
            for text, outcome in turning_lines([str(checkpoint) for checkpoint in run], self.lines):
                terminalreporter.write_line(text, **_colour(outcome))

    def _audited(self, models: list[str]) -> Iterator[Audited]:
        warned: set[str] = set()
        limited: dict[str, str] = {}  # to the model whose limit has its reason told
        for model in models:
            facts = [(label, text) for text, label in self._facts.get(model, {}).items() if text not in warned]
            warned |= {text for label, text in facts if label == "warning"}
            for index, (label, text) in enumerate(facts):
                if label == "limits" and (first := limited.setdefault(text, model)) != model:
                    facts[index] = (label, f"{text.partition(': ')[0]}: as for {first}")
            placed = sorted(refused for refused in self._refused.values() if refused[2][0] == model)
            refused = [(limit, measure, test) for _, _, (_, limit, measure, test) in placed]
            yield Audited(model, sorted(facts, key=lambda fact: (_FACTS_IN_ORDER.index(fact[0]), fact[1])), refused)


def _colour(outcome: str) -> dict[str, bool]:
    return {colour: True} if (colour := colour_of(outcome)) else {}


def _read(report: pytest.TestReport, name: str) -> Any:
    for key, value in report.user_properties:
        if key == name:
            return json.loads(str(value))
    return None


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr).strip()
