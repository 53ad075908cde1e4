"""Small multiples on log-log axes as one SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from circuit_assertions.report.svg import Axes, Canvas, Scale, picture

__all__ = ["Panel", "Series", "figure"]

_COLUMNS = 3
_WIDTH, _HEIGHT = 300, 250  # of one panel, in pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 50, 46  # around its axes
_LABEL = 90  # room for a line's name at its end
_APART = 24  # two names of values
_LOOKS = {"ours": ("blue", "", "strong"), "other": ("orange", "dashed", "")}  # colour, line and name


@dataclass(frozen=True)
class Series:
    """One line. `look` is `ours` or `other`; all numbers are positive."""

    name: str
    look: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One set of axes; labels name the unit. The first series' points give the ticks of x."""

    title: str
    x: str
    y: str
    series: Sequence[Series]
    y_range: tuple[float, float]


def figure(title: str, panels: Sequence[Panel]) -> str:
    """The panels, three in a row, as the text of an SVG file. The same numbers give the same text."""
    canvas = picture(_WIDTH * _COLUMNS, _HEIGHT * math.ceil(len(panels) / _COLUMNS), title)
    for number, panel in enumerate(panels):
        down, across = divmod(number, _COLUMNS)
        _draw(canvas.moved(across * _WIDTH, down * _HEIGHT), panel)
    return canvas.rendered()


def _draw(canvas: Canvas, panel: Panel) -> None:
    canvas.text(_LEFT, 18, panel.title, "heading")
    canvas.text(_LEFT, 36, panel.y, "tick")
    xs = [x for x, _ in panel.series[0].points]
    across = Scale((xs[0], xs[-1]), (_LEFT, _WIDTH - _RIGHT), logarithmic=True)
    axes = Axes(canvas, across, Scale(panel.y_range, (_HEIGHT - _BOTTOM, _TOP), logarithmic=True))
    axes.grid("{:g}".format)
    axes.steps([(x, f"{x:g}") for x in xs], panel.x, _APART)
    for series in panel.series:
        _draw_line(axes, series)


def _draw_line(axes: Axes, series: Series) -> None:
    colour, line, name = _LOOKS[series.look]
    at = axes.line(series.points, colour, line)
    near = [y for number, (_, y) in enumerate(at) if number + 1 == len(at) or at[number + 1][0] > at[-1][0] - _LABEL]
    falling = near[-1] > near[0] + 1  # then there is room above the line's end, else below it
    y = min(near) - 10 if falling else max(near) + 18
    axes.canvas.text(at[-1][0], y, series.name, f"fill-{colour} halo {name}".rstrip(), "end")
