"""One helper for all figures: SVG with a title, axes, marks, names and one style, readable on light and dark pages.

The same figure gives the same text, so that a page's pictures change only if what they show does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from circuit_assertions.ordering import ranked
from circuit_assertions.printable import printable

__all__ = ["PALETTE", "Axes", "Canvas", "Points", "Scale", "picture"]

# Okabe and Ito's colours, safe for colour-blind eyes; each a little darker for light pages and lighter for dark ones.
PALETTE = {
    "blue": ("#0072b2", "#56b4e9"),
    "orange": ("#b34f00", "#f0883e"),
    "green": ("#00795a", "#2fc79b"),
    "purple": ("#9c4f86", "#e29cc9"),
    "yellow": ("#8a6d00", "#f0e442"),
    "sky": ("#2b7fae", "#9fd3f2"),
    "grey": ("#4d4d4d", "#c9c9c9"),
}
_LIGHT = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #3d4451 }
  .title, .heading { font-size: 15px; font-weight: 600; fill: #14181f } .heading { font-size: 13px }
  .tick { font-size: 11px; fill: #667085 } .strong { font-weight: 600 }
  .on-dark { fill: #ffffff } .on-light { fill: #1a1a1a }
  .page { fill: #ffffff } .grid { stroke: #e4e7ec } .zero, .whole { stroke: #98a2b3 } .whole { stroke-dasharray: 5 4 }
  .halo { paint-order: stroke; stroke: #ffffff; stroke-width: 4px } .cell { stroke: #d0d0d0 } .empty { fill: #fafafa }
  path { fill: none; stroke-width: 2; stroke-linejoin: round } .dashed { stroke-dasharray: 5 4 } .band { opacity: 0.2 }
"""
_DARK = """\
    text { fill: #c3c9d4 } .title, .heading { fill: #f2f4f7 } .tick { fill: #98a2b3 } .halo { stroke: #14181f }
    .page { fill: #14181f } .grid { stroke: #2f3642 } .zero, .whole { stroke: #667085 }
"""
_NAMES = {"look": "class"}
_LINE = 15  # pixels between two names at the ends of lines

Points = Sequence[tuple[float, float]]


class Canvas:
    """A place to draw: a whole picture, or a part of it that has been moved."""

    def __init__(self, element: ElementTree.Element) -> None:
        self._element = element

    def add(self, kind: str, words: str = "", **attributes: str | float) -> Canvas:
        """Add an element, with the text that it holds. `text_anchor` is `text-anchor`, and `look` the class."""
        named = {_NAMES.get(name, name).replace("_", "-"): _shown(value) for name, value in attributes.items()}
        element = ElementTree.SubElement(self._element, kind, {name: value for name, value in named.items() if value})
        element.text = printable(words) or None
        return Canvas(element)

    def text(self, x: float, y: float, words: str, look: str = "", anchor: str = "start") -> None:
        """Write words, beginning at a place, or ending at it, or around it (`end`, `middle`)."""
        self.add("text", words, look=look, x=x, y=y, text_anchor=anchor)

    def moved(self, x: float, y: float) -> Canvas:
        """A part of the picture whose origin lies here."""
        return self.add("g", transform=f"translate({_shown(x)} {_shown(y)})")

    def rendered(self) -> str:
        """The text of an SVG file."""
        _break_lines(self._element)
        return ElementTree.tostring(self._element, encoding="unicode") + "\n"


def picture(width: float, height: float, title: str, dark: bool = True) -> Canvas:
    """An empty picture.

    Args:
        title: what it shows, for users who cannot see it; it is not drawn.
        dark: whether dark pages have a dark picture.
    """
    size = {"viewBox": f"0 0 {_shown(width)} {_shown(height)}", "width": _shown(width), "height": _shown(height)}
    label = {"role": "img", "aria-label": printable(title)}
    drawn = Canvas(ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg"} | size | label))
    drawn.add("title", title)
    drawn._element.append(_style(dark))
    drawn.add("rect", look="page", width=width, height=height)
    return drawn


@dataclass(frozen=True)
class Scale:
    """Where values lie along an axis.

    Attributes:
        values: the first and the last value.
        pixels: where these two lie.
        logarithmic: whether equal ratios are equally long.
    """

    values: tuple[float, float]
    pixels: tuple[float, float]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where a value lies; in the middle if the axis has one value only."""
        first, last, own = map(math.log, (*self.values, value)) if self.logarithmic else (*self.values, value)
        share = (own - first) / (last - first) if last > first else 0.5
        return self.pixels[0] + (self.pixels[1] - self.pixels[0]) * share

    def ticks(self) -> list[float]:
        """Some three to seven round values, zero among them; powers of ten where the scale is logarithmic."""
        low, high = self.values
        if self.logarithmic:
            powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
            return [10.0**power for power in powers]
        rough = (high - low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * times for times in (1, 2, 2.5, 5, 10) if power * times >= rough * 0.8)
        return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


@dataclass(frozen=True)
class Axes:
    """A pair of axes on a canvas; y grows upwards."""

    canvas: Canvas
    x: Scale
    y: Scale

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies."""
        return self.x.at(x), self.y.at(y)

    def grid(self, shown: Callable[[float], str]) -> None:
        """A line across at each round value of y, with the value beside it."""
        for value in self.y.ticks():
            self.rule(value, "grid" if value else "zero")
            self.canvas.text(self.x.pixels[0] - 8, self.y.at(value) + 4, shown(value), "tick", "end")

    def rule(self, value: float, look: str) -> None:
        """A line across at a value of y."""
        (left, right), y = self.x.pixels, self.y.at(value)
        self.canvas.add("line", look=look, x1=left, x2=right, y1=y, y2=y)

    def steps(self, named: Iterable[tuple[float, str]], title: str, apart: float) -> None:
        """Names of values of x below the axis, and what they are. Names that would run into each other are left out.

        Args:
            apart: how many pixels two names need.
        """
        bottom, taken = self.y.pixels[0], -math.inf
        for value, name in named:
            if (x := self.x.at(value)) - taken > apart:
                self.canvas.text(x, bottom + 18, name, "tick", "middle")
                taken = x
        self.canvas.text(sum(self.x.pixels) / 2, bottom + 38, title, anchor="middle")

    def line(
        self, points: Points, colour: str, more: str = "", says: Callable[[float, float], str] | None = None
    ) -> Points:
        """A line with a mark at each of its points; where these lie.

        Args:
            colour: of the palette.
            more: further looks of the line.
            says: what a mark says when a pointer is over it.
        """
        at = [self.at(x, y) for x, y in points]
        path = " L".join(f"{_shown(x)} {_shown(y)}" for x, y in at)
        self.canvas.add("path", look=f"line-{colour} {more}".rstrip(), d=f"M{path}")
        for (x, y), point in zip(at, points, strict=True):
            mark = self.canvas.add("circle", look=f"fill-{colour}", cx=x, cy=y, r=3)
            if says is not None:
                mark.add("title", says(*point))
        return at

    def band(self, lower: Points, upper: Points, colour: str) -> None:
        """The area between two lines."""
        at = [self.at(x, y) for x, y in [*upper, *reversed(lower)]]
        corners = " ".join(f"{_shown(x)},{_shown(y)}" for x, y in at)
        self.canvas.add("polygon", look=f"fill-{colour} band", points=corners)

    def names(self, ends: Iterable[tuple[str, str, float]]) -> None:
        """Names at the ends of lines, each as near to its own as it can be without lying on another.

        Args:
            ends: name, look and height in pixels.
        """
        below = -math.inf
        for name, look, y in ranked(sorted(ends), lambda end: -end[2], decimals=1):
            below = max(y + 4, below + _LINE)
            self.canvas.text(self.x.pixels[1] + 10, below, name, look)


def _shown(value: str | float) -> str:
    """Text as it may be printed, and numbers to a tenth of a pixel."""
    return printable(value) if isinstance(value, str) else f"{round(value, 1) + 0.0:g}"


def _break_lines(element: ElementTree.Element) -> None:
    """Put each element on a line of its own, except what is within a shape."""
    element.text = "\n"
    for child in element:
        child.tail = "\n"
        if child.tag == "g":
            _break_lines(child)


def _style(dark: bool) -> ElementTree.Element:
    light, night = (
        " ".join(
            f"path.line-{name} {{ stroke: {shades[place]} }} .fill-{name} {{ fill: {shades[place]} }}"
            for name, shades in PALETTE.items()
        )
        for place in (0, 1)
    )
    element = ElementTree.Element("style")
    element.text = f"{_LIGHT}  {light}\n"
    if dark:
        element.text += f"  @media (prefers-color-scheme: dark) {{\n{_DARK}    {night}\n  }}\n"
    return element
