"""Judge suites on one model under one setting after another, beside the same model under the reference setting."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Judgement
from circuit_assertions.assertions.runner import NotApplicable, SuiteRunner
from circuit_assertions.calibration.differences import Compared, differences_of
from circuit_assertions.calibration.errors import CalibrationError
from circuit_assertions.calibration.rearranged import RearrangingAudit
from circuit_assertions.calibration.variations import Variation
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.diagnosis.suite_verdicts import Answer, Bound, Suites, answers_of, named
from circuit_assertions.engine import Model
from circuit_assertions.engine.passes import in_batches_of
from circuit_assertions.measures import MEASURES
from circuit_assertions.measures.tolerances import NO_TOLERANCE, Setting, Tolerance, Tolerances
from circuit_assertions.results.calibration import NotCalibrated, SettingResult, SettingUsed
from circuit_assertions.unexpected import tell_unexpected

__all__ = ["Calibrating", "with_prompts"]


class _AsRead(Tolerances):
    """No tolerance between any two settings: what is to be measured must not be refused."""

    def between(self, measure: str, one: Setting, other: Setting) -> Tolerance:
        return NO_TOLERANCE


def with_prompts(suites: Suites, count: int) -> Suites:
    """The same suites with so many prompts of each task that draws prompts, and all prompts of the others."""
    found = []
    for loaded, circuits in suites:
        fixed = copy.copy(loaded)
        tasks = {name: task.with_count(count) or task for name, task in loaded.suite.tasks.items()}
        fixed.suite = loaded.suite.model_copy(update={"tasks": tasks})
        found.append((fixed, circuits))
    return found


@dataclass
class Calibrating:
    """Compares a model with itself.

    Attributes:
        audit: its baseline is the model under the reference setting.
        assertions: those whose readings are compared, by name.
    """

    audit: RearrangingAudit
    suites: Suites
    reference: SettingUsed
    margin: float
    assertions: dict[str, Bound] = field(default_factory=dict)
    judged: dict[str, Judgement] = field(default_factory=dict)
    left_out: list[NotCalibrated] = field(default_factory=list)

    def judge_reference(self) -> None:
        """Take the readings that all others are compared with.

        Raises:
            CheckpointError: if the model cannot be opened.
            CalibrationError: if no assertion has a reading.
        """
        self.audit.model(self.checkpoint)
        for name, answer in self._answers(self.checkpoint, named(self.suites)).items():
            bound = named(self.suites)[name]
            if isinstance(answer, Judgement):
                self.assertions[name], self.judged[name] = bound, answer
            else:
                self.left_out.append(_not_calibrated(name, bound, answer))
        if not self.judged:
            reasons = "; ".join(dict.fromkeys(one.reason for one in self.left_out))
            raise CalibrationError(f"no assertion has a reading on {self.checkpoint}: {reasons[:400]}")

    @property
    def checkpoint(self) -> Checkpoint:
        """The model."""
        assert self.audit.baseline is not None
        return self.audit.baseline

    def run(self, variation: Variation) -> SettingResult:
        """Compare one setting with the reference."""
        kind, name = variation.kind, variation.name
        if variation.used is None:
            return SettingResult(kind=kind, name=name, used=None, reason=variation.reason)
        try:
            pairs, missing = self.compare(variation)
        except CircuitAssertionsError as error:  # half precision that is not implemented, weights that overflow in it
            return SettingResult(kind=kind, name=name, used=None, reason=str(error))
        changed = (one for one in pairs if one.reference.verdict is not one.other.verdict)
        return SettingResult(
            kind=kind,
            name=name,
            used=variation.used,
            measures=differences_of(pairs, self.margin),
            judged=len(pairs),
            changed=tuple(f"{one.name}: {one.reference.verdict} -> {one.other.verdict}" for one in changed),
            not_compared=tuple(missing),
        )

    def compare(self, variation: Variation) -> tuple[list[Compared], list[NotCalibrated]]:
        """The readings of a setting that the machine has beside those of the reference, and what has none under it.

        Raises:
            CircuitAssertionsError: if the model cannot be opened so.
        """
        assert variation.used is not None
        with self._opened(variation) as checkpoint, _computing(variation.used):
            answers = self._answers(checkpoint, self.assertions)
            pairs = [
                Compared(name, self.judged[name], answer, *self._halves(name, self.judged[name]))
                for name, answer in answers.items()
                if isinstance(answer, Judgement)
            ]
        missing = [
            _not_calibrated(name, self.assertions[name], answer)
            for name, answer in answers.items()
            if not isinstance(answer, Judgement)
        ]
        return pairs, missing

    def _halves(self, name: str, judged: Judgement) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The rows of two halves of a reading's prompts; every template is shared out between them, where it can be."""
        bound = self.assertions[name]
        prompts = self.audit.prompts(bound.suite.suite.tasks[bound.assertion.task], self.checkpoint)
        if judged.reading.prompts == len(prompts):
            return prompts.halves()
        rows = range(judged.reading.prompts)
        return tuple(rows[::2]), tuple(rows[1::2])

    def _answers(self, checkpoint: Checkpoint, assertions: Mapping[str, Bound]) -> dict[str, Answer]:
        shape = self.audit.model(self.checkpoint).shape
        as_read = _AsRead("", shape, Setting(self.reference.dtype, self.reference.device), {})
        return answers_of(SuiteRunner(self.audit, self.checkpoint, tolerances=as_read), checkpoint, assertions)

    @contextlib.contextmanager
    def _opened(self, variation: Variation) -> Iterator[Checkpoint]:
        """The model under a setting, as a checkpoint of its own, until its readings were compared."""
        called = f"{self.checkpoint} with {variation.kind} {variation.name}"
        checkpoint = Checkpoint(called, hub_id=called)
        model = self.audit.model(self.checkpoint)
        used = variation.used
        assert used is not None
        if variation.opens:
            opening = replace(self.audit.opening, dtype=used.dtype, device=variation.device)
            with tell_unexpected(f"{self.checkpoint} cannot be opened in {used.dtype} on {variation.device}"):
                model = Model.of(open_checkpoint(self.checkpoint, opening))
        if used.order != self.reference.order:
            self.audit.orders[checkpoint] = used.order
        self.audit.adopt(checkpoint, model, like=self.checkpoint)
        try:
            yield checkpoint
        finally:
            self.audit.forget(checkpoint)


@contextlib.contextmanager
def _computing(used: SettingUsed) -> Iterator[None]:
    """Compute with so many threads, in batches of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(used.threads)
    try:
        with in_batches_of(used.batch):
            yield
    finally:
        torch.set_num_threads(threads)


def _not_calibrated(name: str, bound: Bound, answer: Answer) -> NotCalibrated:
    measure = bound.assertion.measure
    if MEASURES[measure].compares:
        reason = "it compares checkpoints, which one run opens under the same setting"
    else:
        assert not isinstance(answer, Judgement)
        reason = answer.reason if isinstance(answer, NotApplicable) else str(answer)
    return NotCalibrated(name=name, measure=measure, reason=reason)
