"""The diagnosis after the verdicts: what broke compared with the baseline, its origin, whether it recovered."""

from __future__ import annotations

import shlex
import traceback
import warnings

import pytest

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Circuit, LoadedSuite
from circuit_assertions.assertions.runner import PlannedAssertion
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.plugin.audited import SessionAudit
from circuit_assertions.plugin.judged_suites import judged_suites, last_of_runs
from circuit_assertions.plugin.showing_step import ShowingPlugin
from circuit_assertions.plugin.terminal import TerminalPlugin
from circuit_assertions.policy import DEFAULT
from circuit_assertions.printable import printable
from circuit_assertions.results import DiagnosisResult
from circuit_assertions.tasks import Task
from circuit_assertions.unexpected import tell_unexpected
from circuit_assertions.verdict_words import SOMETHING_LOST, Outcome, Overall, colour_of

__all__ = ["DiagnosingPlugin"]

_NOT_MADE = Outcome.ERROR
_WORST_FIRST: tuple[str, ...] = (Overall.CORRUPTED, _NOT_MADE, Overall.DEGRADED, Overall.AMPLIFIED, Overall.INTACT)

Lines = list[tuple[str, str]]


class DiagnosingPlugin:
    """Diagnoses every checkpoint that was audited beside its baseline, and prints what was found.

    Of a training run that is its last checkpoint; `circuit-assertions trajectory` follows all of them.
    What a report shows of a checkpoint is read while it is open.
    """

    def __init__(self, audited: SessionAudit, telling: TerminalPlugin, showing: ShowingPlugin | None = None) -> None:
        self._audited = audited
        self._telling = telling
        self._showing = showing
        self._found: list[Lines] = []
        self.results: list[DiagnosisResult] = []

    @property
    def has_found(self) -> bool:
        """Whether there is a diagnosis to be printed."""
        return bool(self._found)

    @property
    def overall(self) -> tuple[str, ...]:
        """The verdict of each diagnosis that was made, ERROR for those that could not be, in the order of printing."""
        return tuple(_verdict(lines) for lines in self._found)

    @property
    def failing(self) -> str:
        """The verdict that makes the run fail, CORRUPTED or DEGRADED, where that is asked for; else empty."""
        asked = self._audited.options.degraded == "fail"
        return next((word for word in SOMETHING_LOST if asked and word in self.overall), "")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Before the models are closed. A run that was interrupted, or judged nothing, is not diagnosed."""
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return
        try:
            for checkpoint, run in last_of_runs(self._audited):
                self._found += self._all_of(checkpoint, run)
                if self._showing is not None:
                    self._showing.show(checkpoint)
                self._audited.runner.forget(checkpoint)
        except KeyboardInterrupt:  # it would take the verdicts with it, which are yet to be printed
            alone = "interrupted; `circuit-assertions diagnose` makes it alone, --no-diagnosis leaves it out"
            self._found.append([(alone, _NOT_MADE)])

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_terminal_summary"""
        for number, lines in enumerate(self._found):
            terminalreporter.section("circuit diagnosis") if number == 0 else terminalreporter.write_line("")
            for text, verdict in lines:
                colour = colour_of(verdict)
                terminalreporter.write_line(printable(text), **({colour: True} if colour else {}))
        if self.failing:
            terminalreporter.write_line(f"{self.failing} fails this run, as --circuit-degraded=fail asks", red=True)

    def _all_of(self, checkpoint: Checkpoint, run: int) -> list[Lines]:
        """Its diagnoses, the worst first."""
        suites = judged_suites(self._audited, self._telling.lines, checkpoint)
        found = [self._diagnosed(checkpoint, *asked) for asked in suites]
        found.sort(key=_severity)
        if found and run > 1 and self._audited.recorded is None:
            follow = ["circuit-assertions", "trajectory", "--model", checkpoint.given, "--baseline"]
            policy = self._audited.options.policy
            judged_by = [] if policy == DEFAULT.name else ["--policy", policy]
            command = shlex.join([*follow, str(self._audited.baseline), *judged_by])
            from circuit_assertions.report.diagnosed import unwrapped

            found[-1].append(unwrapped("run", f"the last of {run} checkpoints; all of them: {command}"))
        return found

    def _diagnosed(
        self, checkpoint: Checkpoint, suite: LoadedSuite, circuit: str, task: Task, circuits: tuple[Circuit, ...]
    ) -> Lines:
        from circuit_assertions.diagnosis.lenses import diagnose
        from circuit_assertions.engine import LimitError
        from circuit_assertions.report.diagnosed import diagnosis_lines
        from circuit_assertions.results.from_diagnosis import diagnosis_result

        runner, baseline = self._audited.runner, self._audited.baseline
        assert baseline is not None
        # With workers nothing was announced in this process, and `--discover` finds circuits by what was.
        runner.announce(
            PlannedAssertion(suite, assertion, checkpoint, circuits) for assertion in suite.suite.assertions
        )
        try:
            with warnings.catch_warnings(action="ignore"), tell_unexpected("an unexpected error"):
                bound = runner.binding(checkpoint, circuit, circuits)
                found = diagnose(
                    runner.audit,
                    checkpoint,
                    baseline,
                    task,
                    {} if bound is None else bound.circuit.roles,
                    circuit=circuit,
                    corrupted=self._audited.corrupted,
                    insist=False,
                    tell=runner.audit.progress,
                )
                result = diagnosis_result(found)
                lines = list(diagnosis_lines(result))
                self.results.append(result)
                return lines
        except CircuitAssertionsError as error:
            # Something of the model was judged, so the circuit audit above has told its limits. Not the baseline's.
            limited = isinstance(error, LimitError) and error.checkpoint == checkpoint
            said = error.short if isinstance(error, LimitError) and limited else str(error)
            return [(f"{checkpoint} could not be diagnosed by {circuit}: {said}", _NOT_MADE)]
        except Exception as error:
            # Where the traceback is asked for; the verdicts stand and are yet to be printed.
            reason = "".join(traceback.format_exception(error))
            return [(f"{checkpoint} could not be diagnosed by {circuit}: {reason}", _NOT_MADE)]


def _severity(lines: Lines) -> int:
    return _WORST_FIRST.index(_verdict(lines))


def _verdict(lines: Lines) -> str:
    """The verdict stands before all other words that lines carry."""
    return next(verdict for _, verdict in lines if verdict)
