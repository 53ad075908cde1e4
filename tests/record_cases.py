"""Records that no model was opened for: readings of made-up values, and the audit that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading as TakenReading
from circuit_assertions.records.building import About, build
from circuit_assertions.records.gathering import Gathered
from circuit_assertions.records.packing import Array
from circuit_assertions.records.paths import Shortening
from circuit_assertions.records.record import Record
from circuit_assertions.results import AssertionResult, AuditedModel, AuditResult, CheckpointFacts, Figure, Reading
from circuit_assertions.results.audit import GateVerdict, HeadFinding
from circuit_assertions.verdict_words import GateResult, Outcome

__all__ = ["HEADS", "assertion_of", "audit_of", "facts_of", "kept_record", "reading_of", "spread"]

HEADS = (Head(0, 0), Head(0, 1), Head(1, 0))
STARTED = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)


def spread(mean: float, prompts: int = 64, width: float = 1.0, seed: int = 0) -> Array:
    """Values around a mean [prompts]."""
    drawn = np.random.default_rng(seed).normal(size=prompts)
    values: Array = mean + width * (drawn - drawn.mean())
    return values


def reading_of(
    values: Array,
    measure: str = "direct-effect",
    *,
    heads: Sequence[Head] = (),
    seed: int = 0,
    alone: bool = True,
    kind: str = "mean",
    unit: str = "logits",
    first: int = 0,
    operands: Mapping[str, str] | None = None,
    dtype: str = "float32",
) -> TakenReading:
    """A reading of prompts that are numbered from `first`."""
    prompts = len(values)
    identity = {"fingerprint": "f" * 8, "architecture": "GPT2LMHeadModel", "dtype": dtype, "device": "cpu"}
    settings: dict[str, Any] = {
        "task": {"kind": "ioi", "prompts": prompts, "seed": seed},
        "operands": dict(operands or {}),
        "token_hash": f"{seed}-{first}-{prompts}",
        "balance": {"ABBA/0": prompts},
        "model": identity,
    }
    numbers = range(first, first + prompts)
    return TakenReading(
        measure,
        unit,
        kind,
        values,
        tuple(heads),
        settings,
        [f"prompt {number}" for number in numbers],
        ["ABBA/0"] * prompts,
        hashes=[f"{seed:04x}{number:012x}" for number in numbers],
        alone=alone,
    )


def facts_of(model: str, fingerprint: str = "f" * 8, layers: int = 2) -> CheckpointFacts:
    return CheckpointFacts(
        checkpoint=model,
        fingerprint=fingerprint,
        architecture="GPT2LMHeadModel",
        layers=layers,
        heads=2,
        d_model=8,
        dtype="float32",
        device="cpu",
    )


def assertion_of(
    name: str, outcome: str, reading: TakenReading | None, model: str = "tuned", **more: Any
) -> AssertionResult:
    """The result of an assertion whose rows are the columns of its reading."""
    rows = (
        ()
        if reading is None
        else tuple(
            HeadFinding(
                name="" if head is None else str(head),
                figure=Figure(mean=float(values.mean()), low=float(values.min()), high=float(values.max())),
                verdict=outcome,
                findings=(),
            )
            for head, values in reading.columns()
        )
    )
    return AssertionResult(
        model=model,
        suite="suites/a.yaml",
        id=name,
        outcome=outcome,
        measure="" if reading is None else reading.measure,
        subject=name,
        rows=rows,
        reading=None if reading is None else Reading.of(reading),
        **more,
    )


def audit_of(assertions: Sequence[AssertionResult], model: str = "tuned", layers: int = 2) -> AuditResult:
    bad = any(one.outcome == Outcome.BROKEN for one in assertions)
    line = f"GATE: {GateResult.FAIL if bad else GateResult.PASS} (made up)"
    return AuditResult(
        models=(AuditedModel(model=model, facts=facts_of(model, layers=layers)),),
        assertions=tuple(assertions),
        gate=GateVerdict(passed=not bad, exit_code=int(bad), line=line),
    )


def kept_record(
    *asked: tuple[str, str, TakenReading | None],
    model: str = "tuned",
    label: str = "",
    after: float = 0.0,
    layers: int = 2,
    redact: bool = False,
    start: Path = Path("/project"),
) -> Record:
    """The record of a run, by the name, outcome and reading of each assertion.

    Args:
        after: how many seconds after the first one it was started.
    """
    gathered = Gathered()
    for _, _, reading in asked:
        if reading is not None:
            gathered.take(model, reading)
    assertions = [assertion_of(name, outcome, reading, model) for name, outcome, reading in asked]
    about = About(
        started=STARTED + timedelta(seconds=after),
        seconds=1.5,
        shortening=Shortening(start, redact),
        label=label,
        seconds_of={("suites/a.yaml", name, model): 0.25 for name, _, _ in asked},
    )
    return build(audit_of(assertions, model, layers), gathered, about)
