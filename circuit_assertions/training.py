"""Audits during training: a callback of transformers' Trainer that judges every checkpoint as soon as it is saved.

trainer = Trainer(..., callbacks=[AuditCallback(["suites/ioi.yaml"], baseline="base/", stop=True)])
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.policy_file import policy_named
from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening, find_checkpoints
from circuit_assertions.diagnosis.comparing_measures import ComparingMeasures
from circuit_assertions.diagnosis.suites_given import suites_given
from circuit_assertions.places import suite_path
from circuit_assertions.plugin.gate import Gate, Rules
from circuit_assertions.printable import printable
from circuit_assertions.results import AssertionResult
from circuit_assertions.results.of_suites import results_of
from circuit_assertions.trackers import Tracker, figures_of
from circuit_assertions.unexpected import tell_unexpected

__all__ = ["AuditCallback", "AuditedStep"]


@dataclass(frozen=True)
class AuditedStep:
    """A checkpoint of the training, audited.

    Attributes:
        step: at which it was saved.
        folder: where.
        results: of every assertion.
        gate: the gate's line.
        passed: whether the gate passes.
    """

    step: int
    folder: Path
    results: tuple[AssertionResult, ...]
    gate: str
    passed: bool


class AuditCallback(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Audits every checkpoint that is saved, and can stop the training.

    The checkpoint is opened from its folder, as `pytest --model` does it; the model in training is not touched, and the
    random numbers of the training stay what they would be without audits. With several processes each of them audits.

    Attributes:
        steps: what was audited, in order.
    """

    def __init__(
        self,
        suites: Sequence[str | Path],
        *,
        baseline: str | None = None,
        stop: bool = False,
        tracker: Tracker | None = None,
        tokenizer: str | None = None,
        device: str = "auto",
        policy: str = "default",
        unresolved: str = "report",
        skipped: str = "report",
    ) -> None:
        """Check the suites and the baseline before the training begins.

        Args:
            suites: suite files; `packaged:ioi.yaml` for a packaged one.
            baseline: the healthy checkpoint, mostly the one that training starts from.
            stop: whether the training ends where the gate fails.
            tracker: what the figures are logged to, as `open_tracker("mlflow", "run")`; the caller closes it.
            tokenizer: a folder; default the checkpoint's, else the baseline's.
            device: of the audits: `auto`, `cpu`, `cuda:1`.
            unresolved, skipped: whether these outcomes fail the gate: `report` or `fail`.

        Raises:
            CircuitAssertionsError: if a suite is not valid, or there is no baseline of that name.
        """
        self.steps: list[AuditedStep] = []
        self._suites = suites_given([suite_path(suite) for suite in suites])
        self._baseline = None if baseline is None else _one(baseline)
        opening = Opening(device, "float32", tokenizer, self._baseline)
        self._audit = Audit(opening, self._baseline, policy_named(policy))
        self._rules, self._stop, self._tracker = Rules(unresolved, skipped), stop, tracker

    @property
    def failed(self) -> tuple[AuditedStep, ...]:
        """The steps at which the gate failed."""
        return tuple(step for step in self.steps if not step.passed)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """https://huggingface.co/docs/transformers/main_classes/callback#transformers.TrainerCallback.on_save"""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        audited = self._audited(state.global_step, folder)
        self.steps.append(audited)
        if state.is_world_process_zero:
            self._tell(audited)
        if self._stop and not audited.passed:
            control.should_training_stop = True
        return control

    def _audited(self, step: int, folder: Path) -> AuditedStep:
        import torch

        # A model that is opened draws random weights first, and the training must not notice it.
        with torch.random.fork_rng(), tell_unexpected(f"{folder} cannot be audited"):
            results = tuple(self._judged(folder))
        gate = Gate(self._rules, results, baseline="" if self._baseline is None else str(self._baseline))
        code = gate.code(0)
        return AuditedStep(step, folder, results, gate.line(code), code == 0)

    def _judged(self, folder: Path) -> Iterator[AssertionResult]:
        checkpoint, baseline = _one(str(folder)), self._baseline
        runner = SuiteRunner(self._audit, baseline)
        if baseline is not None:
            runner.compare = ComparingMeasures(self._audit, baseline, None, self._audit.progress)
        try:
            yield from results_of(runner, checkpoint, self._suites)
        finally:
            if checkpoint != baseline:
                self._audit.forget(checkpoint)

    def _tell(self, audited: AuditedStep) -> None:
        sys.stderr.write(f"\n{printable(f'{audited.folder}: {audited.gate}')}\n")
        if self._tracker is not None:
            figures: Mapping[str, float] = figures_of(audited.results)
            self._tracker.log({**figures, "circuit/gate": float(audited.passed)}, audited.step)


def _one(said: str) -> Checkpoint:
    found = find_checkpoints(said)
    if len(found) > 1:
        raise CircuitAssertionsError(f"{said} is a training run: name one of its checkpoints")
    return found[0]
