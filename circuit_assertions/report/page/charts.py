"""Small charts of a report as numbers for its template: figures with intervals on one scale, and lines over steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from circuit_assertions.measures.figures import number
from circuit_assertions.report.svg import Scale
from circuit_assertions.results.values import Figure

__all__ = ["Bar", "IntervalChart", "Spark", "interval_chart", "spark"]

_WIDTH, _ROOM = 300.0, 8.0  # pixels of the scale, and on each side of it
_SPARK = (140.0, 30.0, 3.0)  # width, height, room


@dataclass(frozen=True)
class Bar:
    """A figure on a scale, in pixels from the left, and in words."""

    name: str
    low: float
    mean: float
    high: float
    said: str
    tone: str = ""


@dataclass(frozen=True)
class IntervalChart:
    """Figures on one scale.

    Attributes:
        zero: where zero lies.
        ticks: where round values lie, in words.
        mark: where a value lies that figures are compared with; None for none.
    """

    width: float
    bars: tuple[Bar, ...]
    zero: float
    ticks: tuple[tuple[float, str], ...]
    mark: float | None = None


@dataclass(frozen=True)
class Spark:
    """A line over checkpoints, with its intervals: points of SVG shapes.

    Attributes:
        zero: where zero lies; None where it is outside.
    """

    width: float
    height: float
    line: str
    band: str
    dots: tuple[tuple[float, float], ...]
    zero: float | None
    said: str


def interval_chart(
    figures: Iterable[tuple[str, Figure, str, str]], mark: float | None = None, around: Iterable[Figure] = ()
) -> IntervalChart:
    """Figures on one scale that shows zero.

    Args:
        figures: name, figure, the figure in words, and a tone.
        mark: a value that is drawn across.
        around: further figures that the scale has room for.
    """
    known = list(figures)
    values = [value for one in (*(one for _, one, _, _ in known), *around) for value in (one.low, one.high)]
    low, high = min(0.0, *values), max(0.0, mark or 0.0, *values)
    scale = Scale((low, high if high > low else low + 1), (_ROOM, _WIDTH - _ROOM))

    def at(value: float) -> float:
        return round(scale.at(value), 1)

    bars = tuple(Bar(name, at(one.low), at(one.mean), at(one.high), said, tone) for name, one, said, tone in known)
    ticks = tuple((at(value), f"{value:g}") for value in scale.ticks())
    return IntervalChart(_WIDTH, bars, at(0.0), ticks, None if mark is None else at(mark))


def spark(figures: Sequence[Figure | None]) -> Spark | None:
    """Figures over steps of equal distance; None where fewer than two were read."""
    read = [(place, one) for place, one in enumerate(figures) if one is not None]
    if len(read) < 2:
        return None
    width, height, room = _SPARK
    values = [value for _, one in read for value in (one.low, one.high)]
    across = Scale((0.0, float(len(figures) - 1)), (room, width - room))
    up = Scale((min(values), max(values)), (height - room, room))
    points = [(round(across.at(place), 1), round(up.at(one.mean), 1)) for place, one in read]
    upper = [(across.at(place), up.at(one.high)) for place, one in read]
    lower = [(across.at(place), up.at(one.low)) for place, one in reversed(read)]
    zero = round(up.at(0.0), 1) if min(values) <= 0 <= max(values) else None
    said = ", ".join(number(one.mean) for _, one in read)
    return Spark(width, height, _points(points), _points([*upper, *lower]), tuple(points), zero, said)


def _points(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
