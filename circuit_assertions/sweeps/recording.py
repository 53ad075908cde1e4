"""The record of a unit: its verdicts, and every reading of the checkpoint that they rest on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from circuit_assertions.assertions import Judgement
from circuit_assertions.assertions.further_readings import take_further, without_consequences
from circuit_assertions.assertions.runner import PlannedAssertion, SuiteRunner
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.policy import DEFAULT
from circuit_assertions.records.building import About, Judged, build
from circuit_assertions.records.gathering import Gathered
from circuit_assertions.records.paths import Shortening
from circuit_assertions.records.record import Record
from circuit_assertions.results import AssertionResult, AuditResult
from circuit_assertions.sweeps.asked import Setting

__all__ = ["Recording", "options_of"]


@dataclass
class Recording:
    """Gathers the readings of one checkpoint while a suite is judged on it."""

    checkpoint: Checkpoint
    _gathered: Gathered = field(default_factory=Gathered)
    _started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = field(default_factory=time.monotonic)
    _seconds: dict[Judged, float] = field(default_factory=dict)

    def keep(self, checkpoint: Checkpoint, reading: Reading) -> None:
        """Keep a reading, if it is of this checkpoint, or of one that links to the same files."""
        if checkpoint == self.checkpoint:
            self._gathered.take(str(self.checkpoint), reading)

    def after(self, runner: SuiteRunner, asked: PlannedAssertion, judged: object) -> None:
        """Keep what an assertion was judged by, and read what it would need if this were the baseline of another."""
        if isinstance(judged, Judgement) and MEASURES[asked.assertion.measure].compares:
            self.keep(asked.checkpoint, judged.reading)
        with without_consequences():
            take_further(runner, asked, None)

    @contextlib.contextmanager
    def timed(self, line: AssertionResult) -> Iterator[None]:
        """Note how long an assertion takes."""
        began = time.monotonic()
        yield
        self._seconds[(line.suite, line.id, line.model)] = time.monotonic() - began

    def record(self, result: AuditResult, setting: Setting) -> Record:
        """The record of what was judged. It has no label yet."""
        named = [one for one in (self.checkpoint, setting.baseline, setting.corrupted) if one is not None]
        about = About(
            started=self._started,
            seconds=time.monotonic() - self._clock,
            shortening=Shortening(setting.folder, named=tuple(map(str, named))),
            options=tuple(options_of(setting)),
            seconds_of=self._seconds,
        )
        return build(result, self._gathered, about)


def options_of(setting: Setting) -> list[str]:
    """The options with which pytest judges as a sweep does, without the model; defaults are left out."""
    opening = setting.opening
    said = [("--baseline", setting.baseline), ("--corrupted", setting.corrupted), ("--tokenizer", opening.tokenizer)]
    said += [("--model-device", opening.device if opening.device != "auto" else None)]
    said += [("--model-dtype", opening.dtype if opening.dtype != "float32" else None)]
    said += [("--policy", setting.policy.name if setting.policy.name != DEFAULT.name else None)]
    return [f"{name}={value}" for name, value in said if value is not None]
