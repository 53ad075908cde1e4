"""A summary of a discovery: the model's behaviour, which heads have which role, and how reliable that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from circuit_assertions.assertions.chains import UNEXPLAINED
from circuit_assertions.heads import Head, parse_head
from circuit_assertions.measures.figures import number, signed
from circuit_assertions.printable import printable
from circuit_assertions.report.explaining import figure_text, interval_text, share_text
from circuit_assertions.report.headmap import HeadMap, map_lines
from circuit_assertions.report.tables import Column, table
from circuit_assertions.results import DiscoveryResult
from circuit_assertions.results.discovery import FoundCircuit, NearestRule, PlacedHead, RuleCriterion

__all__ = ["discovery_lines", "map_of"]

_LABELS = Column(least=12)
_HEADS = (Column(), Column(least=6), Column(), Column(least=21))


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


def discovery_lines(result: DiscoveryResult, colours: str | None = None) -> Iterator[str]:
    """The summary: facts, a table of heads by role, and the head map; or why no circuit was found.

    Args:
        colours: rich's name of the colours that the map is shown in; None for none.
    """
    found = result.found
    if found is None:
        yield printable(f"{'' if result.undecided else 'no circuit: '}{result.reason}")
        return
    yield from table(list(_facts(result, found)), _LABELS)
    yield ""
    yield from table(list(_heads(found)), *_HEADS)
    if found.mlps:
        yield ""
        yield from table(list(_mlps(found)), *_HEADS[1:3], Column())
    yield ""
    yield from map_lines(map_of(result), colours)
    yield ""
    yield from table([*_went_on(found), *_trust(found), *_written(result)], _LABELS)


def _facts(result: DiscoveryResult, found: FoundCircuit) -> Iterator[tuple[str, str]]:
    model = found.model
    yield "model", result.checkpoint
    yield (
        "",
        f"{model['architecture']} of {model['layers']} layers x {model['heads']} heads, d_model {model['d_model']}, "
        f"fingerprint {model['fingerprint'][:12]}",
    )
    if not result.policy.is_default:
        yield "policy", result.policy.name
    task = found.task
    drawn = f" (undecided on the first {found.undecided_on})" if found.undecided_on is not None else ""
    yield "task", f"{task['kind']}, {task['prompts']} prompts{drawn}"
    if found.on_repeated:
        yield "", f"scores of repeated tokens on {found.on_repeated} sequences"
    behaviour = found.behaviour
    yield (
        "behaviour",
        f"{found.metric.called} {figure_text(behaviour[found.metric.name])}, "
        f"answers right on {behaviour['answer-rate'].mean:.0%} of the prompts",
    )
    if rates := found.answer_rate_by_kind:
        by_kind = ", ".join(f"{kind} {share_text(rate)}" for kind, rate in rates.items())
        yield "", f"answers right by kind of prompt: {by_kind}"


def _heads(found: FoundCircuit) -> Iterator[tuple[str, ...]]:
    placed = _by_head(found)
    yield "role", "head", "effect on", found.metric.unit, "judged by"
    for role, heads in found.roles.items():
        own = sorted(map(parse_head, heads), key=lambda head: (-abs(float(number(placed[head].telling.mean))), head))
        for index, head in enumerate(own):
            yield role if index == 0 else "", *_row(head, placed[head])
            if (nearest := placed[head].nearest) is not None:
                yield "", "", "", "", f"nearest: {_nearest(nearest)}"


def _mlps(found: FoundCircuit) -> Iterator[tuple[str, ...]]:
    yield "MLP", "effect on", found.metric.unit
    for mlp, effects in found.mlps.items():
        for index, (stage, effect) in enumerate(effects.items()):
            yield mlp if index == 0 else "", stage, f"{signed(effect.mean)} {interval_text(effect)}"


def _row(head: Head, one: PlacedHead) -> tuple[str, str, str, str]:
    effect = one.telling
    evidence = list(one.evidence.items())[: 2 if one.role == UNEXPLAINED else None]  # their strongest looks come first
    judged = ", ".join(f"{name} {number(value)}" for name, value in evidence)
    if one.undecided:
        judged += f"; undecided whether {' or '.join(one.undecided)}"
    return str(head), one.effect_on, f"{signed(effect.mean)} {interval_text(effect)}", judged


def _nearest(nearest: NearestRule) -> str:
    """What was read and what is needed, the criteria that are missed first."""
    by_name: dict[str, list[RuleCriterion]] = {}
    for criterion in nearest.criteria:
        by_name.setdefault(criterion.name, []).append(criterion)
    told = {name: _read(name, criteria) for name, criteria in by_name.items()}
    missed = [name for name, criteria in by_name.items() if not all(criterion.met for criterion in criteria)]
    return f"{nearest.role}: " + "; ".join(told[name] for name in dict.fromkeys((*missed, *told)))


def _read(name: str, criteria: Sequence[RuleCriterion]) -> str:
    """One score or attention; of attention that is too little, not what it should be more than as well."""
    reads = criteria[0].reads
    text = f"{name} not read" if reads is None else f"{name} {number(reads)}"
    short = next((one for one in criteria if not one.met and one.more_than is None), None)
    if short is not None:
        return f"{text}, {short.needed:.0%} needed"
    more = [f"{one.more_than} {number(one.needed)}" for one in criteria if not one.met]
    return f"{text}, not clearly more than to {' and '.join(more)}" if more else text


def _went_on(found: FoundCircuit) -> Iterator[tuple[str, str]]:
    """Where the chain went on from heads without a role, and what no threshold is proposed for therefore."""
    for index, (stage, heads) in enumerate(found.went_on_from.items()):
        told = f"{stage}, from heads that have the effect and not the role: {', '.join(heads)}"
        yield "went on" if index == 0 else "", told
    if found.not_proposed:
        roles = ", ".join(found.not_proposed)
        yield "", f"no threshold is proposed for the effect of {roles}: suites cannot name the heads that it is on"


def _trust(found: FoundCircuit) -> Iterator[tuple[str, str]]:
    faithful, count = found.faithfulness, len(found.heads)
    yield (
        "faithfulness",
        f"{count} heads {figure_text(faithful['circuit'])}; random circuits of the same size and layers "
        f"{figure_text(faithful['random'])}",
    )
    if "roles-alone" in faithful:
        yield "", f"those with a role, without the unexplained ones, {figure_text(faithful['roles-alone'])}"
    stability = found.stability
    yield (
        "stability",
        f"Jaccard of the circuits of two halves of the prompts: {stability.jaccard_of_halves:.2f}, the mean of "
        f"{len(stability.by_split)} splits ({min(stability.by_split):.2f} to {max(stability.by_split):.2f})",
    )
    if stability.unstable:
        unsteady = ", ".join(f"{role} {value:.2f}" for role, value in stability.by_role.items() if value < 1)
        yield "", f"WARNING: unstable ({unsteady}): use more prompts before you gate on these heads"
    if found.unclear:
        heads = ", ".join(found.unclear)
        yield "undecided", f"{heads}: the effect is large enough, but not clear of zero on these prompts"
    if faithful["circuit"].mean <= faithful["random"].mean:
        yield "", "WARNING: not more faithful than random circuits: other heads carry the behaviour"
    elif faithful["circuit"].mean < faithful["random"].high:
        yield "", "WARNING: not clearly more faithful than random circuits: use more prompts"


def _written(result: DiscoveryResult) -> Iterator[tuple[str, str]]:
    if result.file is not None:
        yield "written", f"{result.file}, and its head map {Path(result.file).with_suffix('.svg')}"


def _by_head(found: FoundCircuit) -> dict[Head, PlacedHead]:
    return {parse_head(name): one for name, one in found.heads.items()}
