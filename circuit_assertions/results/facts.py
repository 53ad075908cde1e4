"""What the result of an audit says of a checkpoint."""

from __future__ import annotations

from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.recorded import RecordedCheckpoint, recorded_settings
from circuit_assertions.results.audit import AuditedModel, ModelLimit
from circuit_assertions.results.values import CheckpointFacts

__all__ = ["audited_model"]


def audited_model(runner: SuiteRunner, checkpoint: Checkpoint) -> AuditedModel:
    """What is known of a checkpoint so far.

    Raises:
        CheckpointError: if it or the baseline cannot be opened.
    """
    opened = runner.audit.opened(checkpoint)
    recorded = runner.audit.recorded
    of_baseline, settings = None, tuple[str, ...]()
    if runner.baseline is not None and recorded is None:
        baseline = runner.audit.opened(runner.baseline)
        of_baseline = CheckpointFacts.of(runner.baseline, baseline)
        settings = tuple(baseline.function.differences(opened.function))
    if recorded is not None:
        of_baseline = _recorded_facts(recorded)
        settings = recorded_settings(recorded.known.fingerprint, opened.fingerprint)
    bound = {str(binding) for (owner, *_), binding in runner.bindings.items() if owner == checkpoint and binding}
    return AuditedModel(
        model=str(checkpoint),
        facts=CheckpointFacts.of(checkpoint, opened),
        baseline=of_baseline,
        settings=settings,
        corrupted="" if runner.corrupted is None else str(runner.corrupted),
        unfit=runner.unfit,
        circuits=tuple(sorted(bound)),
        limits=tuple(
            ModelLimit(name=limit.name, reason=limit.reason) for limit in dict.fromkeys(opened.limits.values())
        ),
        warnings=runner.unread,
    )


def _recorded_facts(recorded: RecordedCheckpoint) -> CheckpointFacts:
    known = recorded.known
    return CheckpointFacts(
        checkpoint=str(recorded.checkpoint),
        fingerprint=known.fingerprint,
        **known.shape.plain(),
        dtype=known.identity.get("dtype", ""),
        device=known.identity.get("device", ""),
        notes=recorded.notes,
    )
