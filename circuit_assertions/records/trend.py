"""Assertions over several runs: the checkpoints of a training run, in one record or in several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from circuit_assertions.records.comparing import compare, run_of
from circuit_assertions.records.record import Record
from circuit_assertions.results import AssertionResult, TrendResult
from circuit_assertions.results.comparison import AssertionTrend, RunCompared
from circuit_assertions.results.values import Figure

__all__ = ["trend_over"]


def trend_over(records: Sequence[Record], fail: str) -> TrendResult:
    """The trend over at least two records, in the order given.

    Raises:
        RecordError: if a condition of `fail` is unknown.
    """
    steps = [step for record in records for step in _steps(record)]
    keys = dict.fromkeys((one.suite, one.id) for _, assertions in steps for one in assertions.values())
    last = records[-1].audit.policy
    return TrendResult(
        policy=last,
        runs=tuple(run for run, _ in steps),
        assertions=tuple(_trend([assertions.get(key) for _, assertions in steps]) for key in keys),
        first_and_last=compare(records[0], records[-1], fail),
    )


def _steps(record: Record) -> Iterator[tuple[RunCompared, dict[tuple[str, str], AssertionResult]]]:
    """Each checkpoint of a record, with its assertions."""
    run = run_of(record)
    for model, fingerprint in zip(run.models, run.fingerprints, strict=True):
        own = {(one.suite, one.id): one for one in record.audit.assertions if one.model == model}
        yield run.model_copy(update={"models": (model,), "fingerprints": (fingerprint,)}), own


def _trend(over: Sequence[AssertionResult | None]) -> AssertionTrend:
    first = next(one for one in over if one is not None)
    told = next((one for one in over if one is not None and one.rows), first)
    row = told.rows[0].name if told.rows else ""
    return AssertionTrend(
        suite=first.suite,
        id=first.id,
        subject=first.subject,
        unit="" if told.reading is None else told.reading.unit,
        row=row,
        outcomes=tuple(None if one is None else one.outcome for one in over),
        figures=tuple(None if one is None else _figure(one, row) for one in over),
    )


def _figure(one: AssertionResult, row: str) -> Figure | None:
    """The figure of a row, by its name; a reading that is followed by a mean has other heads in its name."""
    return next((found.figure for found in one.rows if found.name == row), None)
