"""A training run as a picture: behaviour and roles over steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import cycle

from circuit_assertions.checkpoints import step_of
from circuit_assertions.report.svg import PALETTE, Axes, Canvas, Points, Scale, picture
from circuit_assertions.results import TrajectoryResult

__all__ = ["run_picture"]

_WIDTH, _HEIGHT = 760, 560
_LEFT, _RIGHT = 56, 576  # of the axes
_BEHAVIOUR, _ROLES = (64, 234), (300, 510)  # top and bottom of the two panels
_APART = 30  # two names of steps


def run_picture(trajectory: TrajectoryResult) -> str:
    """The run as SVG: its behaviour with intervals, and what its roles retain of the baseline's effect."""
    title = f"{trajectory.run} compared with {trajectory.baseline}"
    canvas = picture(_WIDTH, _HEIGHT, title)
    canvas.text(16, 26, title, "title")
    places = _places(trajectory.run_checkpoints)
    _draw_behaviour(canvas, trajectory, places)
    _draw_roles(canvas, trajectory, places)
    return canvas.rendered()


def _draw_behaviour(canvas: Canvas, trajectory: TrajectoryResult, places: Mapping[str, float]) -> None:
    read = [(places[step.checkpoint], step.behaviour) for step in trajectory.steps if step.behaviour is not None]
    low = [(x, figure.low) for x, figure in read]
    high = [(x, figure.high) for x, figure in read]
    before = trajectory.before.mean
    axes = _axes(canvas, _BEHAVIOUR, places.values(), [before, *(bound for _, bound in [*low, *high])])
    level = f"{100 * trajectory.policy.values['figure_confidence']:g} % intervals"
    canvas.text(_LEFT - 40, _BEHAVIOUR[0] - 14, f"{trajectory.task} {trajectory.metric.called}, with {level}")
    axes.grid("{:g}".format)
    axes.rule(before, "whole")
    axes.band(low, high, next(iter(PALETTE)))
    _draw_lines(axes, {"behaviour": [(x, figure.mean) for x, figure in read]}, before, {})


def _draw_roles(canvas: Canvas, trajectory: TrajectoryResult, places: Mapping[str, float]) -> None:
    read = [(places[step.checkpoint], step.roles) for step in trajectory.steps if not step.problem]
    roles = dict.fromkeys(role for _, shares in read for role in shares)
    lines = {role: [(x, shares[role].mean) for x, shares in read if role in shares] for role in roles}
    axes = _axes(canvas, _ROLES, places.values(), [1.0, *(share for line in lines.values() for _, share in line)])
    canvas.text(_LEFT - 40, _ROLES[0] - 14, "share of the baseline's effect that is left, by role")
    axes.grid("{:.0%}".format)
    axes.rule(1.0, "whole")
    named = [(places[step.checkpoint], str(step.step or "final")) for step in trajectory.steps]
    axes.steps(named, "step", _APART)
    _draw_lines(axes, lines, 1.0, trajectory.colours)


def _places(run: Sequence[str]) -> dict[str, float]:
    """Where each checkpoint lies along x; the weights in the root of a run are drawn behind its last step."""
    steps = [step_of(checkpoint) for checkpoint in run]
    numbered = [float(step) for step in steps if step is not None]
    behind = numbered[-1] + max(1.0, (numbered[-1] - numbered[0]) / max(1, len(numbered) - 1))
    return {name: behind if step is None else float(step) for name, step in zip(run, steps, strict=True)}


def _axes(canvas: Canvas, place: tuple[float, float], steps: Collection[float], values: Sequence[float]) -> Axes:
    """Axes that show all the values and zero, with a little room above them."""
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.06 * (high - low)
    top, bottom = place
    y = Scale((low - room if low < 0 else low, high + room), (bottom, top))
    return Axes(canvas, Scale((min(steps), max(steps)), (_LEFT, _RIGHT)), y)


def _draw_lines(axes: Axes, lines: Mapping[str, Points], whole: float, colours: Mapping[str, str]) -> None:
    """Lines with a mark at each checkpoint, and at their ends their names and the baseline's."""
    own = _colours(list(lines), colours)
    ends = [("baseline", "tick", axes.y.at(whole))]
    for name, line in lines.items():
        if line:
            at = axes.line(line, own[name], says=partial("{0} {2:.3g} at {1:g}".format, name))
            ends.append((name, f"fill-{own[name]}", at[-1][1]))
    axes.names(ends)


def _colours(names: Sequence[str], colours: Mapping[str, str]) -> dict[str, str]:
    """The colour of each line: the role's own, else the first that no other line has."""
    own = {name: colours[name] for name in names if name in colours}
    free = cycle([colour for colour in PALETTE if colour not in own.values()] or PALETTE)
    return {name: own[name] if name in own else next(free) for name in names}
