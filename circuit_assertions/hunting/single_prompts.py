"""An assertion put to single prompts: by how much each of them misses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuit_assertions.assertions.condition import Condition, Evidence
from circuit_assertions.assertions.expectation import Expectation
from circuit_assertions.assertions.schema import Assertion
from circuit_assertions.hunting.errors import HuntError
from circuit_assertions.measures import MEASURES, Interval, Reading
from circuit_assertions.measures.reading import Array

__all__ = ["Missed", "PromptRow", "check_single", "missed_by"]


@dataclass(frozen=True)
class PromptRow:
    """One head (or the mean of heads, or the model) on one prompt.

    Attributes:
        missed: by how much the value misses what is expected, in the unit of the measure; at most 0 if it does not.
    """

    name: str
    value: float
    missed: float
    baseline: float | None = None


@dataclass(frozen=True)
class Missed:
    """An assertion on one prompt.

    Attributes:
        rows: the worst first.
        by: by how much the prompt misses the assertion as a whole; at most 0 if it meets it.
    """

    rows: tuple[PromptRow, ...]
    by: float


def check_single(assertion: Assertion) -> None:
    """Check that a single prompt can miss an assertion.

    Raises:
        HuntError: with the reason.
    """
    spec = MEASURES[assertion.measure]
    joint = spec.joint or spec.compares or spec.searches or spec.finishes or "whole_templates" in spec.wants
    if joint or spec.of_means or "without" in dict(assertion.operands):
        raise HuntError(
            f"{assertion.id}: {spec.name} is read of all prompts together, so that no single prompt can fail it; hunt "
            "for another assertion"
        )
    unable = [one.key for one in _of_prompts(assertion.expect) if not one.can_be_missed()]
    if unable:
        raise HuntError(
            f"{assertion.id}: `{', '.join(unable)}` is not judged on single prompts; hunt for an assertion with a "
            "bound, `sign:` or `retains:`"
        )


def _of_prompts(expect: Expectation) -> list[Condition[Any]]:
    """What a prompt must meet: bounds that `mostly` takes in, too, and not how many prompts must meet them."""
    return [one for one in expect.conditions if not one.modifies]


def missed_by(
    reading: Reading, expect: Expectation, needed: int | str, baseline: Reading | None = None
) -> tuple[Missed, ...]:
    """By how much each prompt of a reading misses an expectation.

    Args:
        needed: how many heads must meet it, `each`, or `mean`.
    """
    return tuple(_missed(reading, expect, needed, baseline, row) for row in range(reading.prompts))


def _missed(reading: Reading, expect: Expectation, needed: int | str, baseline: Reading | None, row: int) -> Missed:
    rows = [
        _row(name, values, expect, reading, before)
        for name, values, before in _columns(reading.of_prompts([row]), baseline, needed, row)
    ]
    ordered = sorted(rows, key=lambda one: -one.missed)
    # Of heads of which some must meet it, the prompt misses it by what the last one that is needed misses.
    worst = sorted(one.missed for one in rows)[needed - 1] if isinstance(needed, int) else ordered[0].missed
    return Missed(tuple(ordered), worst)


def _columns(
    reading: Reading, baseline: Reading | None, needed: int | str, row: int
) -> Sequence[tuple[str, Array, Array | None]]:
    before = None if baseline is None else baseline.of_prompts([row])
    if needed == "mean" and reading.components:
        mean = None if before is None else before.values.mean(axis=1)
        return [(f"mean of {len(reading.components)} heads", reading.values.mean(axis=1), mean)]
    others = [None] * len(reading.columns()) if before is None else [values for _, values in before.columns()]
    return [
        ("" if one is None else str(one), values, other)
        for (one, values), other in zip(reading.columns(), others, strict=True)
    ]


def _row(name: str, values: Array, expect: Expectation, reading: Reading, before: Array | None) -> PromptRow:
    (value,) = np.asarray(values, dtype=np.float64)
    spec = MEASURES[reading.measure]
    evidence = Evidence(
        values,
        Interval(float(value), float(value)),
        reading.unit,
        reading.rounding,
        None,
        before,
        beside=expect.conditions,
        hits=reading.kind == "share",
        limits=spec.limits,
    )
    found = [one.missed(evidence) for one in _of_prompts(expect) if evidence.suffices(one)]
    return PromptRow(name, float(value), max(found, default=0.0), None if before is None else float(before[0]))
