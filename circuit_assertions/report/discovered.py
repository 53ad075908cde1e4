"""A summary of a discovery: the model's behaviour, which heads have which role, and how reliable that is."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_assertions.assertions.chains import UNEXPLAINED
from circuit_assertions.diagnosis.discovery import Discovery, Placed
from circuit_assertions.diagnosis.discovery.behaviour import rates_shown
from circuit_assertions.measures import Interval
from circuit_assertions.measures.figures import Figure
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.headmap import HeadMap, map_lines, short_roles

__all__ = ["discovery_lines", "map_of"]


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


def discovery_lines(discovery: Discovery, colours: bool = False) -> Iterator[str]:
    """The summary: facts, a table of heads by role, and the head map."""
    yield from _facts(discovery)
    yield ""
    yield from _table(discovery)
    yield ""
    yield from map_lines(map_of(discovery), colours)
    yield ""
    yield from _trust(discovery)


@printable_lines
def _facts(discovery: Discovery) -> Iterator[str]:
    model = discovery.model
    yield f"model         {discovery.checkpoint}"
    yield (
        f"              {model['architecture']} of {model['layers']} layers x {model['heads']} heads, d_model "
        f"{model['d_model']}, fingerprint {model['fingerprint'][:12]}"
    )
    task = discovery.task
    drawn = f" (undecided on the first {discovery.asked})" if discovery.asked is not None else ""
    yield f"task          {task['kind']}, {task['prompts']} prompts{drawn}"
    if discovery.on_repeated:
        yield f"              scores of repeated tokens on {discovery.on_repeated} sequences"
    behaviour = discovery.behaviour
    yield (
        f"behaviour     {discovery.metric.called} {_shown(behaviour[discovery.metric.name])}, "
        f"answers right on {behaviour['answer-rate'].mean:.0%} of the prompts"
    )
    if discovery.kinds:
        yield f"              answers right by kind of prompt: {rates_shown(discovery.kinds)}"


@printable_lines
def _table(discovery: Discovery) -> Iterator[str]:
    placed = discovery.followed.placed
    wide = max(len(one.telling.stage) for one in placed)
    role_wide = max(len(one.role) for one in placed)
    yield f"{'role':<{role_wide}}  {'head':<7} {'effect on':<{wide}}  {discovery.metric.unit:<22} judged by"
    for role, heads in discovery.followed.roles.items():
        own = sorted(
            (one for one in placed if one.role == role), key=lambda one: (-round(abs(one.telling.mean), 2), one.head)
        )
        assert len(own) == len(heads)
        for index, one in enumerate(own):
            yield _row(one, role if index == 0 else "", role_wide, wide)


def _row(one: Placed, role: str, role_wide: int, wide: int) -> str:
    effect = one.telling
    shown = f"{effect.mean:+.2f} {_interval(effect.interval)}"
    evidence = list(one.evidence.items())[: 2 if one.role == UNEXPLAINED else None]  # their strongest looks come first
    judged = ", ".join(f"{name} {value:.2f}" for name, value in evidence)
    if one.undecided:
        judged += f"; undecided whether {' or '.join(one.undecided)}"
    return f"{role:<{role_wide}}  {one.head!s:<7} {effect.stage:<{wide}}  {shown:<22} {judged}".rstrip()


def _trust(discovery: Discovery) -> Iterator[str]:
    faithful, count = discovery.faithfulness, len(discovery.everyone)
    yield (
        f"faithfulness  {count} heads {_shown(faithful['circuit'])}; random circuits of the same size and layers "
        f"{_shown(faithful['random'])}"
    )
    if "roles-alone" in faithful:
        yield f"              those with a role, without the unexplained ones, {_shown(faithful['roles-alone'])}"
    stability = discovery.stability
    yield (
        f"stability     Jaccard of the circuits of two halves of the prompts: {stability.jaccard:.2f}, the mean of "
        f"{len(stability.by_split)} splits ({min(stability.by_split):.2f} to {max(stability.by_split):.2f})"
    )
    if stability.low:
        unsteady = ", ".join(f"{role} {value:.2f}" for role, value in stability.by_role.items() if value < 1)
        yield f"              WARNING: unstable ({unsteady}): use more prompts before you gate on these heads"
    if unclear := discovery.followed.unclear:
        heads = ", ".join(map(str, unclear))
        yield f"undecided     {heads}: the effect is large enough, but not clear of zero on these prompts"
    if faithful["circuit"].mean <= faithful["random"].mean:
        yield "              WARNING: not more faithful than random circuits: other heads carry the behaviour"
    elif faithful["circuit"].mean < faithful["random"].interval.high:
        yield "              WARNING: not clearly more faithful than random circuits: use more prompts"


def _shown(figure: Figure) -> str:
    return f"{figure.mean:.2f} {_interval(figure.interval)}"


def _interval(interval: Interval) -> str:
    return f"[{interval.low:.2f}, {interval.high:.2f}]"
