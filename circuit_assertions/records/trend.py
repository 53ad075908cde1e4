"""Assertions over several runs: the checkpoints of a training run, in one record or in several."""

from __future__ import annotations

from collections.abc import Sequence

from circuit_assertions.records.comparing import compare, run_of
from circuit_assertions.records.errors import RecordError
from circuit_assertions.records.record import Record
from circuit_assertions.results import AssertionResult, TrendResult
from circuit_assertions.results.comparison import AssertionTrend
from circuit_assertions.results.values import Figure

__all__ = ["trend_over"]


def trend_over(records: Sequence[Record], fail: str) -> TrendResult:
    """The trend over all checkpoints of some records, in the order given.

    Raises:
        RecordError: if there is only one checkpoint, or a condition of `fail` is unknown.
    """
    steps = [_alone(record, model.model) for record in records for model in record.audit.models]
    if len(steps) < 2:
        raise RecordError(
            "compare takes two records or more, the earlier first (compare latest~1 latest), or one of a training run"
        )
    by_key = [{(one.suite, one.id): one for one in step.audit.assertions} for step in steps]
    keys = dict.fromkeys(key for assertions in by_key for key in assertions)
    return TrendResult(
        policy=records[-1].audit.policy,
        runs=tuple(map(run_of, steps)),
        assertions=tuple(_trend([assertions.get(key) for assertions in by_key]) for key in keys),
        first_and_last=compare(steps[0], steps[-1], fail),
    )


def _alone(record: Record, model: str) -> Record:
    """What a record has of one of its checkpoints."""
    audit = record.audit
    own = [place for place, one in enumerate(audit.assertions) if one.model == model]
    update = {
        "models": tuple(one for one in audit.models if one.model == model),
        "assertions": tuple(audit.assertions[place] for place in own),
        "diagnoses": tuple(one for one in audit.diagnoses if one.model == model),
    }
    reads = tuple(record.reads[place] for place in own) if record.reads else ()
    return record.model_copy(update={"audit": audit.model_copy(update=update), "reads": reads, "seconds_of": ()})


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
