"""A discovery as a circuit file: the same text byte for byte whenever the same is found."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from circuit_assertions.diagnosis.discovery.criteria import Criterion, Missed
from circuit_assertions.diagnosis.discovery.find_circuit import Discovery
from circuit_assertions.diagnosis.discovery.followed import Effect, Placed
from circuit_assertions.diagnosis.discovery.thresholds import Proposal
from circuit_assertions.diagnosis.discovery.yaml_text import WIDTH, yaml_text
from circuit_assertions.measures import Interval
from circuit_assertions.measures.figures import Figure
from circuit_assertions.policy import Policy

__all__ = ["circuit_content", "circuit_file"]

_DIGITS = 3  # significant ones: what is further behind is not known anyway, and may differ between machines

_HEADER = """\
# Written by `circuit-assertions discover`. Suites take the heads of a role from `roles`; `found` is the evidence.
# Effects are in {unit}; positive effects favour the right answer. Figures are [mean, low, high]: intervals that hold
# with {level}, for all heads and stages together. `unexplained` heads have an effect, but the function of no role.
"""


def circuit_file(discovery: Discovery, notes: str | None = None) -> str:
    """The circuit file's text, with the notes that people made in it."""
    content = circuit_content(discovery, notes)
    header = _HEADER.format(unit=discovery.metric.unit, level=f"{100 * discovery.policy.figure_confidence:g} %")
    for stage, heads in discovery.followed.went_on_from.items():
        header += f"# No head has the role that the stage `{stage}` starts from. It went on from heads without one:\n"
        header += textwrap.fill(", ".join(map(str, heads)), WIDTH, initial_indent="#   ", subsequent_indent="#   ")
        header += "\n"
    return header + yaml_text(content)


def circuit_content(discovery: Discovery, notes: str | None = None) -> dict[str, Any]:
    """The circuit file's values, as JSON could carry them too."""
    model = discovery.model
    shape = {key: model[key] for key in ("architecture", "layers", "heads", "d_model")}
    return {
        "circuit": discovery.circuit,
        "fits": shape,
        "base": {"id": str(discovery.checkpoint), "fingerprint": model["fingerprint"]},
        "source": "circuit-assertions discover",
        **({"notes": notes.strip()} if notes else {}),
        "roles": {role: [str(head) for head in heads] for role, heads in discovery.followed.roles.items()},
        **({"mlps": [str(one.mlp) for one in discovery.mlps]} if discovery.mlps else {}),
        "found": {
            "task": _plain(discovery.task),
            "settings": {**discovery.settings, **_setting(model)},
            "behaviour": _figures(discovery.behaviour),
            **({"answer-rate-by-kind": _figures(discovery.kinds)} if discovery.kinds else {}),
            "faithfulness": _figures(discovery.faithfulness),
            "stability": {
                "jaccard-of-halves": _short(discovery.stability.jaccard),
                "by-split": [_short(value) for value in discovery.stability.by_split],
                "by-role": {role: _short(value) for role, value in discovery.stability.by_role.items()},
            },
            "heads": {str(one.head): _head(one) for one in discovery.followed.placed},
            **({"mlps": {str(one.mlp): _effects(one.effects) for one in discovery.mlps}} if discovery.mlps else {}),
            "thresholds": [_threshold(proposal) for proposal in discovery.thresholds],
            "thresholds-clear": _cleared(discovery.policy),
        },
    }


def _cleared(policy: Policy) -> str:
    """What the model clears the thresholds with."""
    return f"intervals of which {policy.proposal_together} hold together with {100 * policy.confidence:g} %"


def _setting(model: Mapping[str, Any]) -> dict[str, str]:
    """What readings of another run must share, or be given a tolerance for."""
    return {"dtype": model["dtype"], **({} if model["device"] == "cpu" else {"device": model["device"]})}


def _head(placed: Placed) -> dict[str, Any]:
    effects = _effects(placed.effects)
    evidence = {name: _short(value) for name, value in placed.evidence.items()}
    nearest = {} if placed.nearest is None else {"nearest": _nearest(placed.nearest)}
    return {"role": placed.role, **effects, **evidence, **nearest}


def _effects(effects: Iterable[Effect]) -> dict[str, list[float]]:
    return {effect.stage: _mean_and(effect.mean, effect.interval) for effect in effects}


def _nearest(missed: Missed) -> dict[str, Any]:
    """The role that a head came nearest to, and each criterion that it missed: what it reads, and what is needed."""
    return {"role": missed.role, "stage": missed.stage, "missed": [_criterion(one) for one in missed.missed]}


def _criterion(criterion: Criterion) -> dict[str, Any]:
    reads = None if criterion.reads is None else _short(criterion.reads)
    needed = {"more-than": criterion.more_than} if criterion.more_than is not None else {}
    return {"what": criterion.name, "reads": reads, **needed, "needed": _short(criterion.needed)}


def _threshold(proposal: Proposal) -> dict[str, Any]:
    bound = proposal.bound
    return proposal.says | {bound.key: bound.number, "reads": _short(proposal.reads), "margin": _short(proposal.margin)}


def _figures(figures: Mapping[str, Figure]) -> dict[str, list[float]]:
    return {name: _figure(figure) for name, figure in figures.items()}


def _figure(figure: Figure) -> list[float]:
    return _mean_and(figure.mean, figure.interval)


def _mean_and(mean: float, interval: Interval) -> list[float]:
    return [_short(mean), _short(interval.low), _short(interval.high)]


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
