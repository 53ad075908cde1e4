"""A summary of a discovery: the model's behaviour, which heads have which role, and how reliable that is."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_assertions.assertions.chains import UNEXPLAINED
from circuit_assertions.diagnosis.discovery import Discovery, Placed
from circuit_assertions.diagnosis.discovery.behaviour import rates_shown
from circuit_assertions.measures import Interval
from circuit_assertions.measures.figures import Figure
from circuit_assertions.report.headmap import HeadMap, map_lines, short_roles
from circuit_assertions.report.tables import Column, table

__all__ = ["discovery_lines", "map_of"]

_LABELS = Column(least=12)
_HEADS = (Column(), Column(least=6), Column(), Column(least=21))


def map_of(discovery: Discovery) -> HeadMap:
    """The head map of a discovery: the effect by which each head has its role, and its role."""
    placed = discovery.followed.placed
    return HeadMap(
        title=f"{discovery.circuit}: {discovery.checkpoint}",
        layers=discovery.model["layers"],
        heads=discovery.model["heads"],
        effects={one.head: one.telling.mean for one in placed},
        roles={one.head: one.role for one in placed},
        unit=discovery.metric.unit,
        shorts=short_roles(discovery.roles),
    )


def discovery_lines(discovery: Discovery, written: str = "", colours: str | None = None) -> Iterator[str]:
    """The summary: facts, a table of heads by role, and the head map.

    Args:
        written: which files it was written to.
        colours: rich's name of the colours that the map is shown in; None for none.
    """
    yield from table(list(_facts(discovery)), _LABELS)
    yield ""
    yield from table(list(_heads(discovery)), *_HEADS)
    yield ""
    yield from map_lines(map_of(discovery), colours)
    yield ""
    yield from table([*_trust(discovery), *([("written", written)] if written else [])], _LABELS)


def _facts(discovery: Discovery) -> Iterator[tuple[str, str]]:
    model = discovery.model
    yield "model", str(discovery.checkpoint)
    yield (
        "",
        f"{model['architecture']} of {model['layers']} layers x {model['heads']} heads, d_model {model['d_model']}, "
        f"fingerprint {model['fingerprint'][:12]}",
    )
    task = discovery.task
    drawn = f" (undecided on the first {discovery.asked})" if discovery.asked is not None else ""
    yield "task", f"{task['kind']}, {task['prompts']} prompts{drawn}"
    if discovery.on_repeated:
        yield "", f"scores of repeated tokens on {discovery.on_repeated} sequences"
    behaviour = discovery.behaviour
    yield (
        "behaviour",
        f"{discovery.metric.called} {_shown(behaviour[discovery.metric.name])}, "
        f"answers right on {behaviour['answer-rate'].mean:.0%} of the prompts",
    )
    if discovery.kinds:
        yield "", f"answers right by kind of prompt: {rates_shown(discovery.kinds)}"


def _heads(discovery: Discovery) -> Iterator[tuple[str, ...]]:
    placed = discovery.followed.placed
    yield "role", "head", "effect on", discovery.metric.unit, "judged by"
    for role, heads in discovery.followed.roles.items():
        own = sorted(
            (one for one in placed if one.role == role), key=lambda one: (-round(abs(one.telling.mean), 2), one.head)
        )
        assert len(own) == len(heads)
        for index, one in enumerate(own):
            yield role if index == 0 else "", *_row(one)


def _row(one: Placed) -> tuple[str, str, str, str]:
    effect = one.telling
    evidence = list(one.evidence.items())[: 2 if one.role == UNEXPLAINED else None]  # their strongest looks come first
    judged = ", ".join(f"{name} {value:.2f}" for name, value in evidence)
    if one.undecided:
        judged += f"; undecided whether {' or '.join(one.undecided)}"
    return str(one.head), effect.stage, f"{effect.mean:+.2f} {_interval(effect.interval)}", judged


def _trust(discovery: Discovery) -> Iterator[tuple[str, str]]:
    faithful, count = discovery.faithfulness, len(discovery.everyone)
    yield (
        "faithfulness",
        f"{count} heads {_shown(faithful['circuit'])}; random circuits of the same size and layers "
        f"{_shown(faithful['random'])}",
    )
    if "roles-alone" in faithful:
        yield "", f"those with a role, without the unexplained ones, {_shown(faithful['roles-alone'])}"
    stability = discovery.stability
    yield (
        "stability",
        f"Jaccard of the circuits of two halves of the prompts: {stability.jaccard:.2f}, the mean of "
        f"{len(stability.by_split)} splits ({min(stability.by_split):.2f} to {max(stability.by_split):.2f})",
    )
    if stability.low:
        unsteady = ", ".join(f"{role} {value:.2f}" for role, value in stability.by_role.items() if value < 1)
        yield "", f"WARNING: unstable ({unsteady}): use more prompts before you gate on these heads"
    if unclear := discovery.followed.unclear:
        heads = ", ".join(map(str, unclear))
        yield "undecided", f"{heads}: the effect is large enough, but not clear of zero on these prompts"
    if faithful["circuit"].mean <= faithful["random"].mean:
        yield "", "WARNING: not more faithful than random circuits: other heads carry the behaviour"
    elif faithful["circuit"].mean < faithful["random"].interval.high:
        yield "", "WARNING: not clearly more faithful than random circuits: use more prompts"


def _shown(figure: Figure) -> str:
    return f"{figure.mean:.2f} {_interval(figure.interval)}"


def _interval(interval: Interval) -> str:
    return f"[{interval.low:.2f}, {interval.high:.2f}]"
