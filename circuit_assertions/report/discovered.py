"""A summary of a discovery: the model's behaviour, which heads have which role, and how reliable that is."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_assertions.assertions.chains import UNEXPLAINED
from circuit_assertions.heads import Head, parse_head
from circuit_assertions.measures.figures import number, signed
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.explaining import figure_text, interval_text, share_text
from circuit_assertions.report.headmap import HeadMap, map_lines
from circuit_assertions.results import DiscoveryResult
from circuit_assertions.results.discovery import FoundCircuit, PlacedHead

__all__ = ["discovery_lines", "map_of"]


def map_of(result: DiscoveryResult) -> HeadMap:
    """The head map of a discovery: the effect by which each head has its role, and its role.

    Raises:
        ValueError: if no circuit was found.
    """
    found = result.found
    if found is None:
        raise ValueError(f"there is no head map of {result.checkpoint}: {result.reason}")
    placed = _by_head(found)
    return HeadMap(
        title=f"{result.circuit}: {result.checkpoint}",
        layers=found.model["layers"],
        heads=found.model["heads"],
        effects={head: one.telling.mean for head, one in placed.items()},
        roles={head: one.role for head, one in placed.items()},
        unit=found.metric.unit,
        shorts=found.shorts | {UNEXPLAINED: "?"},
    )


def discovery_lines(result: DiscoveryResult, colours: bool = False) -> Iterator[str]:
    """The summary: facts, a table of heads by role, and the head map; or why no circuit was found."""
    found = result.found
    if found is None:
        yield from _no_circuit(result)
        return
    yield from _facts(result, found)
    yield ""
    yield from _table(found)
    yield ""
    yield from map_lines(map_of(result), colours)
    yield ""
    yield from _trust(found)


@printable_lines
def _no_circuit(result: DiscoveryResult) -> Iterator[str]:
    yield f"{result.reason}" if result.undecided else f"no circuit: {result.reason}"


@printable_lines
def _facts(result: DiscoveryResult, found: FoundCircuit) -> Iterator[str]:
    model = found.model
    yield f"model         {result.checkpoint}"
    yield (
        f"              {model['architecture']} of {model['layers']} layers x {model['heads']} heads, d_model "
        f"{model['d_model']}, fingerprint {model['fingerprint'][:12]}"
    )
    task = found.task
    drawn = f" (undecided on the first {found.undecided_on})" if found.undecided_on is not None else ""
    yield f"task          {task['kind']}, {task['prompts']} prompts{drawn}"
    if found.on_repeated:
        yield f"              scores of repeated tokens on {found.on_repeated} sequences"
    behaviour = found.behaviour
    yield (
        f"behaviour     {found.metric.called} {figure_text(behaviour[found.metric.name])}, "
        f"answers right on {behaviour['answer-rate'].mean:.0%} of the prompts"
    )
    if rates := found.answer_rate_by_kind:
        by_kind = ", ".join(f"{kind} {share_text(rate)}" for kind, rate in rates.items())
        yield f"              answers right by kind of prompt: {by_kind}"


@printable_lines
def _table(found: FoundCircuit) -> Iterator[str]:
    placed = _by_head(found)
    wide = max(len(one.effect_on) for one in placed.values())
    role_wide = max(len(one.role) for one in placed.values())
    yield f"{'role':<{role_wide}}  {'head':<7} {'effect on':<{wide}}  {found.metric.unit:<22} judged by"
    for role, heads in found.roles.items():
        own = sorted(map(parse_head, heads), key=lambda head: (-abs(float(number(placed[head].telling.mean))), head))
        for index, head in enumerate(own):
            yield _row(head, placed[head], role if index == 0 else "", role_wide, wide)


def _row(head: Head, one: PlacedHead, role: str, role_wide: int, wide: int) -> str:
    effect = one.telling
    shown = f"{signed(effect.mean)} {interval_text(effect)}"
    evidence = list(one.evidence.items())[: 2 if one.role == UNEXPLAINED else None]  # their strongest looks come first
    judged = ", ".join(f"{name} {number(value)}" for name, value in evidence)
    if one.undecided:
        judged += f"; undecided whether {' or '.join(one.undecided)}"
    return f"{role:<{role_wide}}  {head!s:<7} {one.effect_on:<{wide}}  {shown:<22} {judged}".rstrip()


def _trust(found: FoundCircuit) -> Iterator[str]:
    faithful, count = found.faithfulness, len(found.heads)
    yield (
        f"faithfulness  {count} heads {figure_text(faithful['circuit'])}; random circuits of the same size and layers "
        f"{figure_text(faithful['random'])}"
    )
    if "roles-alone" in faithful:
        yield f"              those with a role, without the unexplained ones, {figure_text(faithful['roles-alone'])}"
    stability = found.stability
    yield (
        f"stability     Jaccard of the circuits of two halves of the prompts: {stability.jaccard_of_halves:.2f}, the "
        f"mean of {len(stability.by_split)} splits ({min(stability.by_split):.2f} to {max(stability.by_split):.2f})"
    )
    if stability.unstable:
        unsteady = ", ".join(f"{role} {value:.2f}" for role, value in stability.by_role.items() if value < 1)
        yield f"              WARNING: unstable ({unsteady}): use more prompts before you gate on these heads"
    if found.unclear:
        heads = ", ".join(found.unclear)
        yield f"undecided     {heads}: the effect is large enough, but not clear of zero on these prompts"
    if faithful["circuit"].mean <= faithful["random"].mean:
        yield "              WARNING: not more faithful than random circuits: other heads carry the behaviour"
    elif faithful["circuit"].mean < faithful["random"].high:
        yield "              WARNING: not clearly more faithful than random circuits: use more prompts"


def _by_head(found: FoundCircuit) -> dict[Head, PlacedHead]:
    return {parse_head(name): one for name, one in found.heads.items()}
