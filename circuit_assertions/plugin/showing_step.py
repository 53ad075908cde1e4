"""What a report shows of a circuit is read after the verdicts, while the model is open, and only for a report."""

from __future__ import annotations

import contextlib
import warnings

import pytest

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Circuit, LoadedSuite
from circuit_assertions.assertions.runner import PlannedAssertion
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.plugin.audited import SessionAudit
from circuit_assertions.plugin.judged_suites import judged_suites, last_of_runs
from circuit_assertions.plugin.terminal import TerminalPlugin
from circuit_assertions.results.circuit_shown import CircuitShown
from circuit_assertions.results.values import MetricFacts
from circuit_assertions.tasks import Task
from circuit_assertions.unexpected import sentence_of, tell_unexpected

__all__ = ["ShowingPlugin"]


class ShowingPlugin:
    """Reads head effects and attention of the checkpoints that a report is about.

    With a diagnosis, that asks for each checkpoint after it has diagnosed it. Without one, this is done at the end of
    the session. With workers it is the controller's work, which opens the models then.

    Attributes:
        results: what was read, checkpoint by checkpoint.
    """

    def __init__(self, audited: SessionAudit, telling: TerminalPlugin, alone: bool) -> None:
        self._audited = audited
        self._telling = telling
        self._alone = alone
        self.results: list[CircuitShown] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Before the models are closed. Nothing is read of a run that was interrupted, or judged nothing."""
        if not self._alone or exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return
        with contextlib.suppress(KeyboardInterrupt):  # it would take the verdicts with it, which are yet to be printed
            for checkpoint, _ in last_of_runs(self._audited):
                self.show(checkpoint)
                self._audited.runner.forget(checkpoint)

    def show(self, checkpoint: Checkpoint) -> None:
        """Read what a report shows of a checkpoint: of each circuit that it was judged by."""
        for suite, circuit, task, circuits in judged_suites(self._audited, self._telling.lines, checkpoint):
            try:
                with warnings.catch_warnings(action="ignore"), tell_unexpected("an unexpected error"):
                    self.results.append(self._shown(checkpoint, suite, circuit, task, circuits))
            except Exception as error:  # the verdicts stand and are yet to be printed
                why = str(error) if isinstance(error, CircuitAssertionsError) else sentence_of(error)
                self.results.append(self._refused(checkpoint, circuit, task, why))

    def _shown(
        self, checkpoint: Checkpoint, suite: LoadedSuite, circuit: str, task: Task, circuits: tuple[Circuit, ...]
    ) -> CircuitShown:
        from circuit_assertions.assertions.chains import UNEXPLAINED, chain_for
        from circuit_assertions.diagnosis.showing import show_circuit
        from circuit_assertions.diagnosis.view import View

        runner, baseline = self._audited.runner, self._audited.baseline
        # With workers nothing was announced in this process, and `--discover` finds circuits by what was.
        runner.announce(
            PlannedAssertion(suite, assertion, checkpoint, circuits) for assertion in suite.suite.assertions
        )
        bound = runner.binding(checkpoint, circuit, circuits)
        roles = {} if bound is None else bound.circuit.roles
        chain = chain_for(task, circuit)
        beside = None if baseline is None or baseline == checkpoint else View(runner.audit, baseline, task)
        showing = show_circuit(chain, roles, View(runner.audit, checkpoint, task), beside)
        return CircuitShown.of(
            showing,
            roles,
            model=str(checkpoint),
            baseline=str(baseline) if any(one.before is not None for one in showing.effects.values()) else None,
            circuit=circuit,
            task=task.kind,
            metric=MetricFacts.of(task.answer_metric),
            layers=(shape := runner.audit.opened(checkpoint).shape).layers,
            heads=shape.heads,
            shorts=chain.shorts | {UNEXPLAINED: "?"},
        )

    def _refused(self, checkpoint: Checkpoint, circuit: str, task: Task, why: str) -> CircuitShown:
        return CircuitShown(
            model=str(checkpoint),
            circuit=circuit,
            task=task.kind,
            metric=MetricFacts.of(task.answer_metric),
            layers=0,
            heads=0,
            prompts=0,
            left_out=(why,),
        )
