"""A plan as text: passes, memory, disk and time."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_assertions.printable import printable_lines
from circuit_assertions.report.tables import Column, table
from circuit_assertions.results.plan import Between, MemoryPlan, PlanResult, TimePlan

__all__ = ["amount_text", "plan_lines", "time_text"]

_LABELS = Column(least=9)
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@printable_lines
def plan_lines(plan: PlanResult) -> Iterator[tuple[str, str]]:
    """The plan as (text, verdict) pairs; no line has a verdict."""
    yield from ((line, "") for line in table(list(_facts(plan)), _LABELS))


def _facts(plan: PlanResult) -> Iterator[tuple[str, str]]:
    for label, shape in zip(("model", "with", ""), plan.shapes, strict=False):
        yield label, shape.model
        size = f"{shape.layers} layers x {shape.heads} heads, d_model {shape.d_model}"
        yield "", f"{shape.architecture} of {size}: {_count(shape.parameters)} weights, {shape.dtype} on {shape.device}"
    yield "suites", f"{', '.join(plan.suites)}: {plan.assertions} assertions, {len(plan.skipped)} of them skipped"
    yield "passes", f"{_between(plan.passes)} prompts through the model"
    if plan.not_counted:
        yield "", f"not counted, because they compare checkpoints: {', '.join(plan.not_counted)}"
    yield from _memory(plan.memory)
    yield "disk", f"{amount_text(plan.disk)} for the record, at most"
    yield from _time(plan.time)
    if plan.checkpoints > 1:
        after = plan.time.expected - plan.time.start
        total = plan.time.start + after * plan.checkpoints
        yield "all", f"{plan.checkpoints} checkpoints, one after the other: about {time_text(total)}"


def _memory(memory: MemoryPlan) -> Iterator[tuple[str, str]]:
    parts = f"weights {amount_text(memory.weights)}, work {amount_text(memory.work)}"
    yield "memory", f"{amount_text(memory.peak)} at most ({parts}, program {amount_text(memory.program)})"
    if memory.fits:
        yield "", f"fits: {amount_text(memory.free)} can be had"
    else:
        yield "", f"does not fit: {amount_text(memory.free)} can be had: {memory.way_out}"


def _time(time: TimePlan) -> Iterator[tuple[str, str]]:
    yield "time", f"about {time_text(time.expected)}: {time_text(time.least)} to {time_text(time.most)}"
    parts = f"{time_text(time.start)} to start, {time_text(time.opening)} to open"
    rates = time.rates
    yield "", f"{parts}; at {rates.flops / 1e9:.1f} GFLOP/s, {1e6 * rates.call:.1f} us a small operation"


def _between(count: Between) -> str:
    if count.least == count.most:
        return f"{count.least}"
    return f"{count.least}, if every assertion is decided at its first look, to {count.most}, if none is;"


def _count(number: int) -> str:
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return str(number)


def amount_text(size: float) -> str:
    """`1.5 GB`."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:.0f} bytes"


def time_text(seconds: float) -> str:
    """`12 s`, `3.5 min`, `2.1 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
