"""A training run as a picture: behaviour and roles over steps, as SVG, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape as escape_html
from itertools import cycle

from circuit_assertions.checkpoints import step_of
from circuit_assertions.ordering import ranked
from circuit_assertions.printable import printable
from circuit_assertions.results import Figure, TrajectoryResult

__all__ = ["run_picture"]

_WIDTH, _HEIGHT = 760, 560
_LEFT, _ACROSS = 56, 520  # where the axes begin, and how long they are
_BEHAVIOUR, _ROLES = (64, 170), (300, 210)  # top and height of the two panels
_LINE = 15  # between two names at the lines' ends

# Okabe and Ito's colours, safe for colour-blind eyes; each a little darker for light pages and lighter for dark ones.
_COLOURS = {
    "blue": ("#0072b2", "#56b4e9"),
    "orange": ("#b34f00", "#f0883e"),
    "green": ("#00795a", "#2fc79b"),
    "purple": ("#9c4f86", "#e29cc9"),
    "yellow": ("#8a6d00", "#f0e442"),
    "sky": ("#2b7fae", "#9fd3f2"),
    "grey": ("#4d4d4d", "#c9c9c9"),
}
_STYLE = """\
  text { font: 12px system-ui, sans-serif; fill: #3d4451 }
  .title { font-size: 15px; font-weight: 600; fill: #14181f } .tick { font-size: 11px; fill: #667085 }
  .page { fill: #ffffff } .grid { stroke: #e4e7ec } .zero, .whole { stroke: #98a2b3 } .whole { stroke-dasharray: 5 4 }
  path { fill: none; stroke-width: 2; stroke-linejoin: round } .band { opacity: 0.2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #c3c9d4 } .title { fill: #f2f4f7 } .tick { fill: #98a2b3 }
    .page { fill: #14181f } .grid { stroke: #2f3642 } .zero, .whole { stroke: #667085 }
  }"""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class _Panel:
    """One set of axes: steps along x, and y between two values."""

    top: float
    height: float
    steps: tuple[float, float]
    low: float
    high: float

    def at(self, step: float, value: float) -> tuple[float, float]:
        first, last = self.steps
        across = (step - first) / (last - first) if last > first else 0.5
        return _LEFT + _ACROSS * across, self.top + self.height * (self.high - value) / (self.high - self.low)


def escape(text: str) -> str:
    """Text from elsewhere as SVG may hold it."""
    return escape_html(printable(text))


def run_picture(trajectory: TrajectoryResult) -> str:
    """The run's behaviour with its intervals, and what its roles retain of the baseline's effect, over steps."""
    places = _places(trajectory.run_checkpoints)
    read = [(places[step.checkpoint], step) for step in trajectory.steps if not step.problem]
    behaviour = [(x, step.behaviour) for x, step in read if step.behaviour is not None]
    roles = list(dict.fromkeys(role for _, step in read for role in step.roles))
    shares = [[(x, step.roles[role].mean) for x, step in read if role in step.roles] for role in roles]
    before = trajectory.before.mean
    bounds = [bound for _, figure in behaviour for bound in (figure.low, figure.high)]
    ends = (min(places.values()), max(places.values()))
    upper = _panel(_BEHAVIOUR, ends, [before, *bounds])
    lower = _panel(_ROLES, ends, [1.0, *(share for line in shares for _, share in line)])
    title = f"{trajectory.run} compared with {trajectory.baseline}"
    ticks = [(places[step.checkpoint], str(step.step or "final")) for step in trajectory.steps]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" role="img" aria-label="{escape(title)}">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{_STYLE}\n{_colours()}\n</style>",
            f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}"/>',
            _text(16, 26, title, "title"),
            *_axes(upper, f"{trajectory.task} {trajectory.metric.called}, with 95 % intervals", before, "{:g}", ()),
            *_band(upper, behaviour),
            *_lines(upper, ["behaviour"], [[(x, figure.mean) for x, figure in behaviour]], before, {}),
            *_axes(lower, "share of the baseline's effect that is left, by role", 1.0, "{:.0%}", ticks),
            *_lines(lower, roles, shares, 1.0, trajectory.colours),
            "</svg>",
            "",
        ]
    )


def _places(run: Sequence[str]) -> dict[str, float]:
    """Where each checkpoint lies along x; the weights in the root of a run are drawn behind its last step."""
    steps = [step_of(checkpoint) for checkpoint in run]
    numbered = [float(step) for step in steps if step is not None]
    behind = numbered[-1] + max(1.0, (numbered[-1] - numbered[0]) / max(1, len(numbered) - 1))
    return {name: behind if step is None else float(step) for name, step in zip(run, steps, strict=True)}


def _panel(place: tuple[float, float], ends: tuple[float, float], values: Sequence[float]) -> _Panel:
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.06 * (high - low)
    return _Panel(*place, ends, low - room if low < 0 else low, high + room)


def _axes(panel: _Panel, title: str, whole: float, shown: str, steps: Sequence[tuple[float, str]]) -> Iterator[str]:
    yield _text(_LEFT - 40, panel.top - 14, title)
    for value in _round_values(panel.low, panel.high):
        _, y = panel.at(panel.steps[0], value)
        yield _rule(y, "grid" if value else "zero")
        yield _text(_LEFT - 8, y + 4, shown.format(value), "tick", "end")
    yield _rule(panel.at(panel.steps[0], whole)[1], "whole")
    taken = -math.inf
    for step, name in steps:
        x, _ = panel.at(step, 0)
        if x - taken > 30:  # ticks that would run into each other are left out
            yield _text(x, panel.top + panel.height + 18, name, "tick", "middle")
            taken = x
    if steps:
        yield _text(_LEFT + _ACROSS / 2, panel.top + panel.height + 38, "step", anchor="middle")


def _band(panel: _Panel, behaviour: Sequence[tuple[float, Figure]]) -> Iterator[str]:
    upper = [panel.at(x, figure.high) for x, figure in behaviour]
    lower = [panel.at(x, figure.low) for x, figure in reversed(behaviour)]
    yield f'<polygon class="fill0 band" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in upper + lower)}"/>'


def _lines(
    panel: _Panel, names: Sequence[str], lines: Sequence[Points], whole: float, colours: Mapping[str, str]
) -> Iterator[str]:
    """Lines with a mark at each checkpoint, and their names and the baseline's at their ends, none over another."""
    looks = _looks(names, colours)
    ends = [("baseline", "tick", panel.at(panel.steps[1], whole)[1])]
    for name, line in zip(names, lines, strict=True):
        if not line:
            continue
        look = looks[name]
        at = [panel.at(x, y) for x, y in line]
        yield f'<path class="line{look}" d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in at)}"/>'
        for (x, y), (step, value) in zip(at, line, strict=True):
            said = f"<title>{escape(name)} {value:.3g} at {step:g}</title>"
            yield f'<circle class="fill{look}" cx="{x:.1f}" cy="{y:.1f}" r="3">{said}</circle>'
        ends.append((name, f"fill{look}", at[-1][1]))
    below = -math.inf
    for name, colour, y in ranked(sorted(ends), lambda end: -end[2], decimals=1):
        below = max(y + 4, below + _LINE)
        yield _text(_LEFT + _ACROSS + 10, below, name, colour)


def _looks(names: Sequence[str], colours: Mapping[str, str]) -> dict[str, int]:
    """The colour of each line by its number: the role's own, else the first that no other line has."""
    own = {name: list(_COLOURS).index(colours[name]) for name in names if name in colours}
    free = cycle([look for look in range(len(_COLOURS)) if look not in own.values()] or range(len(_COLOURS)))
    return {name: own[name] if name in own else next(free) for name in names}


def _round_values(low: float, high: float) -> list[float]:
    """Some four to eight round values between two, zero among them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.8)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _colours() -> str:
    def rules(colours: Iterable[str]) -> str:
        return " ".join(
            f"path.line{index} {{ stroke: {colour} }} .fill{index} {{ fill: {colour} }}"
            for index, colour in enumerate(colours)
        )

    light, dark = zip(*_COLOURS.values(), strict=True)
    return f"  {rules(light)}\n  @media (prefers-color-scheme: dark) {{ {rules(dark)} }}"


def _rule(y: float, look: str) -> str:
    return f'<line class="{look}" x1="{_LEFT}" x2="{_LEFT + _ACROSS}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _text(x: float, y: float, words: str, look: str = "", anchor: str = "start") -> str:
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
