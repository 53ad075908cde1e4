"""The record of a search for a prompt on which an assertion fails."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.measures import Reading
from circuit_assertions.plugin.gate import Gate, Rules
from circuit_assertions.records.building import About, build
from circuit_assertions.records.gathering import Gathered
from circuit_assertions.records.paths import Shortening
from circuit_assertions.records.store import save
from circuit_assertions.results import AuditResult, HuntResult
from circuit_assertions.results.facts import audited_model

__all__ = ["HuntRecording"]


class HuntRecording:
    """Gathers what a search reads of a checkpoint on average. Single prompts are part of its result."""

    def __init__(self, runner: SuiteRunner, checkpoint: Checkpoint) -> None:
        self._runner = runner
        self._checkpoint = checkpoint
        self._gathered = Gathered()
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        runner.audit.keep = self._keep

    def _keep(self, checkpoint: Checkpoint, reading: Reading) -> None:
        if checkpoint == self._checkpoint and reading.prompts > 1:
            self._gathered.take(str(checkpoint), reading)

    def save(self, folder: Path, label: str, result: HuntResult, options: tuple[str, ...]) -> Path:
        """Write the record. Returns its file.

        Args:
            label: the name by which it can be called; empty for none.
            options: how the search was started, as arguments.

        Raises:
            NotWrittenError: if it cannot be written.
        """
        gate = Gate(Rules(), [result.average])
        audit = AuditResult(
            policy=result.policy,
            baseline=result.baseline,
            models=(audited_model(self._runner, self._checkpoint),),
            assertions=(result.average,),
            gate=gate.verdict(gate.code(0)),
        )
        places = (str(self._checkpoint), *([] if result.baseline is None else [result.baseline]))
        about = About(
            started=self._started,
            seconds=time.monotonic() - self._clock,
            shortening=Shortening(Path.cwd(), named=places),
            label=label,
            options=options,
        )
        return save(folder, build(audit, self._gathered, about, (result,)))
