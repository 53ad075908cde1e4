"""A sweep as one HTML page that needs no other file: checkpoints x assertions, trends, and where each broke first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from circuit_assertions.printable import printable
from circuit_assertions.report.explaining import figure_text
from circuit_assertions.report.swept import facts_of, judged_names, last_line, short_names
from circuit_assertions.results.sweep import SweepResult, SweptAssertion, SweptCheckpoint
from circuit_assertions.verdict_words import Outcome

__all__ = ["swept_page"]

_TEMPLATE = "templates/sweep.html"
_WIDE, _HIGH, _EDGE = 240, 44, 5  # of a trend, in pixels


def swept_page(sweep: SweepResult) -> str:
    """The page. Names of checkpoints and reasons are escaped."""
    from jinja2 import Environment

    names = judged_names(sweep)
    shown = sweep.worst_first
    used = {one.assertions[name].outcome for one in shown for name in names if name in one.assertions}
    template = files("circuit_assertions.report").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            sweep=sweep,
            facts=[(label, printable(text)) for label, text in facts_of(sweep)],
            columns=short_names(names),
            rows=[_row(one, names) for one in shown],
            letters=[(word.letter, word.lower()) for word in Outcome if word in used],
            runs=[_run(sweep, run, names) for run in dict.fromkeys(one.run for one in sweep.checkpoints if one.run)],
            note=last_line(sweep),
        )
    )


def _row(one: SweptCheckpoint, names: Sequence[str]) -> dict[str, Any]:
    counted = ", ".join(f"{one.count(word)} {word.said}" for word in Outcome if one.count(word))
    cells = [_cell(one.assertions.get(name)) for name in names]
    return {"name": one.checkpoint, "problem": one.problem, "cells": cells, "counts": counted}


def _cell(one: SweptAssertion | None) -> dict[str, str]:
    if one is None:
        return {"colour": "", "letter": Outcome.NOT_RUN.letter, "told": Outcome.NOT_RUN.meaning}
    word = Outcome.of(one.outcome)
    return {"colour": word.colour, "letter": word.letter, "told": f"{word} {_told(one)}".strip()}


def _told(one: SweptAssertion) -> str:
    if one.figure is None:
        return one.reason
    return f"{one.row} {figure_text(one.figure)} {one.unit}".strip()


def _run(sweep: SweepResult, run: str, names: Sequence[str]) -> dict[str, Any]:
    steps = [one for one in sweep.checkpoints if one.run == run]
    broken = [
        {
            "broke": PurePath(one.broke).name,
            "assertion": one.assertion.rpartition("::")[2],
            "held_before": one.held_before and PurePath(one.held_before).name,
            "came_back": one.came_back and PurePath(one.came_back).name,
        }
        for one in sweep.first_broken
        if one.run == run
    ]
    return {"name": run, "broken": broken, "trends": list(_trends(steps, names))}


def _trends(steps: Sequence[SweptCheckpoint], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The course of every assertion that was judged at two steps of the run or more."""
    for name, short in zip(names, short_names(list(names)), strict=True):
        seen = [
            (place, step, step.assertions[name])
            for place, step in enumerate(steps)
            if name in step.assertions and step.assertions[name].figure is not None
        ]
        if len(seen) > 1:
            yield {"name": short, "unit": seen[-1][2].unit, **_drawn(seen, len(steps))}


def _drawn(seen: Sequence[tuple[int, SweptCheckpoint, SweptAssertion]], steps: int) -> dict[str, Any]:
    """A trend as paths: the interval of every reading as a band, its mean as a line, its outcome as a dot."""
    points = []
    for place, step, one in seen:
        assert one.figure is not None
        points.append((place, one.figure.low, one.figure.mean, one.figure.high, step, one))
    lowest, highest = min(low for _, low, *_ in points), max(high for _, _, _, high, *_ in points)

    def x(place: int) -> float:
        return round(_EDGE + (_WIDE - 2 * _EDGE) * place / max(1, steps - 1), 1)

    def y(value: float) -> float:
        share = (value - lowest) / (highest - lowest) if highest > lowest else 0.5
        return round(_HIGH - _EDGE - (_HIGH - 2 * _EDGE) * share, 1)

    upper = [f"{x(place)},{y(high)}" for place, _, _, high, *_ in points]
    lower = [f"{x(place)},{y(low)}" for place, low, *_ in points]
    dots = [
        {
            "x": x(place),
            "y": y(mean),
            "colour": Outcome.of(one.outcome).colour,
            "told": f"{PurePath(step.checkpoint).name}: {one.outcome} {_told(one)}",
        }
        for place, _, mean, _, step, one in points
    ]
    return {
        "width": _WIDE,
        "height": _HIGH,
        "band": f"M{' L'.join([*upper, *reversed(lower)])} Z",
        "line": f"M{' L'.join(f'{x(place)},{y(mean)}' for place, _, mean, *_ in points)}",
        "dots": dots,
        "first": figure_text(points[0][5].figure) if points[0][5].figure else "",
        "last": figure_text(points[-1][5].figure) if points[-1][5].figure else "",
    }
