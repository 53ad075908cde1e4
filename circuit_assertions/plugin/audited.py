"""What one pytest session was asked to audit: options, checkpoints, suites, and what judges them.

The session's other modules read it from here, so that none of them has to know the plugin that pytest calls.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Circuit
from circuit_assertions.assertions.circuit_names import Unbound
from circuit_assertions.assertions.policy_file import policy_named
from circuit_assertions.assertions.runner import PlannedAssertion, SuiteRunner
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening, Permissions
from circuit_assertions.measures import Reading
from circuit_assertions.measures.tolerances import Tolerances
from circuit_assertions.plugin.options import Options, read_options
from circuit_assertions.plugin.record_given import cache_in, recorded_baseline
from circuit_assertions.plugin.selection import ChosenSuites, chosen_checkpoints, labels_of
from circuit_assertions.policy import Policy
from circuit_assertions.results.audit import ReadingCounts
from circuit_assertions.tasks import Task

if TYPE_CHECKING:
    from circuit_assertions.diagnosis.comparing_measures import ComparingMeasures


class Recording(Protocol):
    """What is told of every assertion of a suite that was judged."""

    def after(self, asked: PlannedAssertion, judged: object) -> None:
        """Take note of an assertion and its judgement."""


__all__ = ["SessionAudit"]


class SessionAudit:
    """The audit of one session.

    Attributes:
        checkpoints: those under audit, each once.
        runs: the training runs among them.
        recorded: the baseline, where a record is in its place.
        policy: the thresholds of all verdicts of the session.
        runner: judges assertions; the models that it opens are those of the session.
        suites: the suites, and the circuit files that belong to them.
        recording: what keeps the readings of the session; None where they are not kept.
        cache: what earlier sessions have read; None where that is not used.
    """

    recording: Recording | None = None

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.options = read_options(config)
        chosen = chosen_checkpoints(self.options, config.invocation_params.dir)
        self.checkpoints, self.runs = chosen.checkpoints, chosen.runs
        self.baseline, self.corrupted = chosen.baseline, chosen.corrupted
        self.recorded = recorded_baseline(self.options, config.invocation_params.dir)
        self._labels = labels_of(self.checkpoints)
        permissions = Permissions(self.options.allow_pickle, self.options.trust_remote_code)
        opening = Opening(self.options.device, self.options.dtype, self.options.tokenizer, self.baseline, permissions)
        self.policy = _policy_of(self.options, config.invocation_params.dir)
        self.cache = cache_in(self.options)
        audit = Audit(opening, self.baseline, self.policy, recorded=self.recorded, cache=self.cache)
        self.runner = SuiteRunner(audit, self.baseline if self.recorded is None else self.recorded.checkpoint)
        self.runner.compares_chat = True
        self.runner.tolerances = _tolerances_of(self.options, config.invocation_params.dir)
        if self.options.discover:
            self.runner.binder.find = self._find()
        if self.baseline is not None:
            self.runner.corrupted = self.corrupted
            self.runner.compare = self._compare
        if self.recorded is not None:
            self.baseline = self.recorded.checkpoint
        self._comparing: ComparingMeasures | None = None
        self.suites = ChosenSuites(config, self.options)

    def labelled(self, label: str) -> str:
        """The checkpoint with this label, as reports name it; the label itself where there is none."""
        return next((str(checkpoint) for checkpoint, known in self._labels.items() if known == label), label)

    def label(self, checkpoint: Checkpoint) -> str:
        """The name of a checkpoint in item names; empty when there is only one."""
        return self._labels[checkpoint]

    def drained(self) -> ReadingCounts:
        """The readings since this was last asked."""
        counts = self.runner.audit.counts
        found = ReadingCounts(**counts)
        counts.clear()
        return found

    @property
    def cache_problem(self) -> str:
        """Why readings could not be kept for later runs; empty where they were, or should not be."""
        return "" if self.cache is None else self.cache.folder.problem

    @property
    def unbound(self) -> Unbound:
        """Whether a suite may name a circuit that no file has: where circuits are discovered on the spot."""
        return "discovered" if self.options.discover else "refused"

    def circuits_of(self, *suites: Path) -> tuple[Circuit, ...]:
        """The circuits that may bind the roles of these suites."""
        return self.suites.circuits_of(*suites)

    def _compare(self, *asked: Any) -> Reading:
        """Take a reading that holds a model against its baseline. What does so is imported once it is asked."""
        from circuit_assertions.diagnosis.comparing_measures import ComparingMeasures

        if self._comparing is None:
            assert self.baseline is not None
            self._comparing = ComparingMeasures(
                self.runner.audit, self.baseline, self.corrupted, self.runner.audit.progress
            )
        return self._comparing(*asked)

    def _find(self) -> Callable[[str, Task], Circuit]:
        """What finds circuits on the baseline.

        Raises:
            pytest.UsageError: if there is none: roles found on the model itself would always be there.
        """
        from circuit_assertions.diagnosis.discovery.finder import Finder

        if self.baseline is None:
            raise pytest.UsageError(
                "--discover finds the roles on the baseline, which is missing: give it with --baseline=path/"
            )
        return Finder(self.runner.audit, self.baseline)


def _tolerances_of(options: Options, start: Path) -> Tolerances | None:
    """The tolerances of --circuit-calibration; None without it.

    Args:
        start: the folder that a relative path starts from.

    Raises:
        pytest.UsageError: if the file is no calibration.
    """
    if options.calibration is None:
        return None
    from circuit_assertions.calibration.file import read_tolerances

    try:
        return read_tolerances(start / options.calibration, options.calibration)
    except CircuitAssertionsError as error:
        raise pytest.UsageError(f"{options.spelled('--circuit-calibration')}: {error}") from error


def _policy_of(options: Options, start: Path) -> Policy:
    """The policy that the options name.

    Args:
        start: the folder that a relative path starts from.

    Raises:
        pytest.UsageError: if there is none, or its file is not valid.
    """
    try:
        policy = policy_named(options.policy, start)
    except CircuitAssertionsError as error:
        raise pytest.UsageError(f"{options.spelled('--policy')}: {error}") from error
    return policy if options.confidence is None else policy.changed(confidence=options.confidence)
