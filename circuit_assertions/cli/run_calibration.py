"""What `circuit-assertions calibrate` does with its options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from circuit_assertions.assertions.packaged import usual_suites
from circuit_assertions.cli.options import in_one_go, lender_of, one_checkpoint, opening_of, policy_of
from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.cli.writable import check_writable
from circuit_assertions.diagnosis.suites_given import suites_given
from circuit_assertions.files import write_whole
from circuit_assertions.places import shown_path

if TYPE_CHECKING:
    from circuit_assertions.audit import Audit
    from circuit_assertions.calibration.measuring import Calibrating
    from circuit_assertions.results import CalibrationResult
    from circuit_assertions.results.calibration import SettingResult, SettingUsed

__all__ = ["run_calibration"]


def run_calibration(given: argparse.Namespace) -> Outcome:
    """Calibrate a model.

    Args:
        given: what `add_calibrate` has options for.

    Raises:
        CircuitAssertionsError: if the suites or the model cannot be used, or the file cannot be written.
    """
    if given.output is not None:
        check_writable(given.output, "calibration.yaml")
    suites = suites_given(given.suites or usual_suites(), given.circuit)
    base, lender = one_checkpoint(given.model), lender_of(given)

    from circuit_assertions.calibration.file import calibration_text
    from circuit_assertions.calibration.measuring import Calibrating, with_prompts
    from circuit_assertions.calibration.rearranged import RearrangingAudit
    from circuit_assertions.calibration.variations import variations
    from circuit_assertions.checkpoints.devices import choose_device

    policy = policy_of(given)
    audit = RearrangingAudit(opening_of(given, lender), base, policy)
    doing, done = ["the reference"], []
    with in_one_go(audit, lambda what: f"{doing[0]}, {what}") as progress:
        reference = _reference(audit)
        device = choose_device(given.device)
        calibrating = Calibrating(audit, with_prompts(suites, given.prompts), reference, policy.calibration_margin)
        calibrating.judge_reference()
        chosen = list(variations(reference, device, given.prompts))
        for number, variation in enumerate(chosen):
            doing[0] = f"{variation.kind} {variation.name} ({number + 1} of {len(chosen)} settings)"
            progress.of_run(number, len(chosen), "settings")
            done.append(calibrating.run(variation))
    result = _result(given, audit, calibrating, reference, done)
    if given.output is not None:
        write_whole(given.output, calibration_text(result, given.output))
    return Outcome(result.to_json() if given.json else _text(result, given))


def _reference(audit: Audit) -> SettingUsed:
    """How the audit computes by itself."""
    import torch

    from circuit_assertions.results.calibration import SettingUsed

    assert audit.baseline is not None
    identity = audit.opened(audit.baseline).identity
    return SettingUsed(dtype=identity["dtype"], device=identity["device"], threads=torch.get_num_threads())


def _result(
    given: argparse.Namespace,
    audit: Audit,
    calibrating: Calibrating,
    reference: SettingUsed,
    done: list[SettingResult],
) -> CalibrationResult:
    from circuit_assertions.mutation.settings import bindings_of
    from circuit_assertions.results import CalibrationResult, CheckpointFacts
    from circuit_assertions.results.base import PolicyUsed

    return CalibrationResult(
        model=CheckpointFacts.of(calibrating.checkpoint, audit.opened(calibrating.checkpoint)),
        suites=tuple(shown_path(suite.file) for suite, _ in calibrating.suites),
        circuits=tuple(str(one) for one in bindings_of(audit, calibrating.suites)),
        prompts=given.prompts,
        margin=calibrating.margin,
        reference=reference,
        settings=tuple(done),
        left_out=tuple(calibrating.left_out),
        policy=PolicyUsed.of(audit.policy),
    )


def _text(result: CalibrationResult, given: argparse.Namespace) -> str:
    from circuit_assertions.report.calibrated import calibration_lines

    return printed(calibration_lines(result, "" if given.output is None else str(given.output)))
