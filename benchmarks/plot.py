"""Small multiples on log-log axes as one SVG, readable on light and dark pages. No plotting library is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Panel", "Series", "figure"]

_COLUMNS = 3
_WIDTH, _HEIGHT = 300, 250  # of one panel, in pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 50, 46  # around its axes
_LABEL = 90  # room for a line's name at its end
_ACROSS, _DOWN = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

_STYLE = """\
  text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #3d4451 }
  .title { font-size: 13px; font-weight: 600; fill: #14181f }
  .tick { font-size: 11px; fill: #667085 }
  .grid { stroke: #e4e7ec; stroke-width: 1 }
  .page { fill: #ffffff }
  text.ours, text.other { paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
  path { fill: none; stroke-width: 2; stroke-linejoin: round }
  path.ours { stroke: #1f5fd0 } circle.ours { fill: #1f5fd0 } text.ours { fill: #1f5fd0; font-weight: 600 }
  path.other { stroke: #b45309; stroke-dasharray: 5 4 } circle.other { fill: #b45309 } text.other { fill: #b45309 }
  @media (prefers-color-scheme: dark) {
    text { fill: #c3c9d4 } .title { fill: #f2f4f7 } .tick { fill: #98a2b3 } .grid { stroke: #2f3642 }
    .page { fill: #14181f }
    text.ours, text.other { stroke: #14181f }
    path.ours { stroke: #7fb0ff } circle.ours { fill: #7fb0ff } text.ours { fill: #7fb0ff }
    path.other { stroke: #f5a550 } circle.other { fill: #f5a550 } text.other { fill: #f5a550 }
  }"""


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
    rows = math.ceil(len(panels) / _COLUMNS)
    width, height = _WIDTH * _COLUMNS, _HEIGHT * rows
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{_STYLE}\n</style>",
        f'<rect class="page" width="{width}" height="{height}"/>',
    ]
    for number, panel in enumerate(panels):
        down, across = divmod(number, _COLUMNS)
        lines += [f'<g transform="translate({across * _WIDTH} {down * _HEIGHT})">', *_panel(panel), "</g>"]
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel) -> Iterator[str]:
    yield _text(_LEFT, 18, panel.title, "title")
    yield _text(_LEFT, 36, panel.y, "tick")
    xs = [x for x, _ in panel.series[0].points]
    ends = (xs[0], xs[-1])
    for value in _decades(*panel.y_range):
        height = _height(value, panel.y_range)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _ACROSS}" y1="{height:.1f}" y2="{height:.1f}"/>'
        yield _text(_LEFT - 7, height + 4, f"{value:g}", "tick", "end")
    taken = -math.inf
    for value in xs:
        place = _place(value, ends)
        if place - taken > 24:  # ticks that would run into each other are left out
            yield _text(place, _HEIGHT - _BOTTOM + 18, f"{value:g}", "tick", "middle")
            taken = place
    yield _text(_LEFT + _ACROSS / 2, _HEIGHT - 10, panel.x, "", "middle")
    for series in panel.series:
        yield from _line(series, ends, panel.y_range)


def _line(series: Series, ends: tuple[float, float], y_range: tuple[float, float]) -> Iterator[str]:
    at = [(_place(x, ends), _height(y, y_range)) for x, y in series.points]
    path = " L".join(f"{x:.1f} {y:.1f}" for x, y in at)
    yield f'<path class="{series.look}" d="M{path}"/>'
    for x, y in at:
        yield f'<circle class="{series.look}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    near = [y for number, (_, y) in enumerate(at) if number + 1 == len(at) or at[number + 1][0] > at[-1][0] - _LABEL]
    falling = near[-1] > near[0] + 1  # then there is room above the line's end, else below it
    yield _text(at[-1][0], min(near) - 10 if falling else max(near) + 18, series.name, series.look, "end")


def _text(x: float, y: float, words: str, look: str, anchor: str = "start") -> str:
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _place(value: float, ends: tuple[float, float]) -> float:
    return _LEFT + _ACROSS * math.log(value / ends[0]) / math.log(ends[1] / ends[0])


def _height(value: float, y_range: tuple[float, float]) -> float:
    return _TOP + _DOWN * (1 - math.log(value / y_range[0]) / math.log(y_range[1] / y_range[0]))


def _decades(lowest: float, highest: float) -> list[float]:
    first, last = math.ceil(math.log10(lowest) - 1e-9), math.floor(math.log10(highest) + 1e-9)
    return [10.0**power for power in range(first, last + 1)]
