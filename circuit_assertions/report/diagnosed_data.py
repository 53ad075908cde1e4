"""A diagnosis as a program reads it: every figure as mean, low and high, and nothing that is no number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from circuit_assertions import __version__
from circuit_assertions.diagnosis import (
    Diagnosis,
    DiagnosisError,
    Figure,
    HeadChange,
    Origin,
    Recovery,
    RoleChange,
)
from circuit_assertions.diagnosis.expression import Expression
from circuit_assertions.diagnosis.function import Inside
from circuit_assertions.diagnosis.rediscovery import Circuits
from circuit_assertions.diagnosis.suite_verdicts import Judged

__all__ = ["diagnosis_data", "diagnosis_json"]


def diagnosis_json(diagnosis: Diagnosis) -> str:
    """The diagnosis as JSON.

    Raises:
        DiagnosisError: if a figure is not finite, which JSON cannot say and nobody should gate on.
    """
    try:
        return json.dumps(diagnosis_data(diagnosis), indent=2, allow_nan=False)
    except ValueError as error:
        raise DiagnosisError(f"a figure of the diagnosis of {diagnosis.model} is not finite: {error}") from error


def diagnosis_data(diagnosis: Diagnosis) -> dict[str, Any]:
    """The diagnosis as plain values; what was not looked for is None."""
    behaviour = diagnosis.behaviour
    return {
        "circuit-assertions": __version__,
        "model": str(diagnosis.model),
        "baseline": str(diagnosis.baseline),
        "corrupted": None if diagnosis.corrupted is None else str(diagnosis.corrupted),
        "circuit": diagnosis.circuit,
        "task": diagnosis.task,
        "settings": dict(diagnosis.settings),
        "prompts": dict(diagnosis.prompts),
        "verdict": diagnosis.verdict,
        "why": diagnosis.why,
        "behaviour": {
            "before": _plain(behaviour.before),
            "after": _plain(behaviour.after),
            "retained": _plain(behaviour.retained),
            "corrupted": None if behaviour.corrupted is None else _plain(behaviour.corrupted),
        },
        "settings-changed": list(diagnosis.settings_changed),
        "notes": list(diagnosis.notes),
        **_origin(diagnosis.origin),
        "roles": {role.role: _role(role) for role in diagnosis.function.roles},
        "roles-not-compared": dict(diagnosis.function.not_compared),
        "inside-the-circuit": None if diagnosis.function.inside is None else _inside(diagnosis.function.inside),
        "expressed": None if diagnosis.expression is None else _expression(diagnosis.expression),
        "recovery": None if diagnosis.recovery is None else _recovery(diagnosis.recovery),
        "recovery-not-told": diagnosis.not_told or None,
        "assertions": {name: _judged(one) for name, one in diagnosis.assertions.items()},
    }


def _origin(origin: Origin) -> dict[str, Any]:
    found = origin.found
    return {
        "origin": origin.verdict,
        "components": [] if found is None else [str(part) for part in found.parts],
        "healed": None if found is None else _plain(found.healed),
        "healed-by-random": None if found is None or found.random is None else _plain(found.random),
        "changed": [str(part) for part in origin.changed],
        "curve": [
            {"components": [str(part) for part in one.parts], "healed": _plain(one.healed)} for one in origin.curve
        ],
        "breaks": _named(origin.breaks),
        "groups": _named(origin.groups),
    }


def _role(role: RoleChange) -> dict[str, Any]:
    return {"retained": _plain(role.retained), "heads": {str(one.head): _head(one) for one in role.heads}}


def _head(one: HeadChange) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "before": _plain(one.before),
        "after": _plain(one.after),
        "change": _plain(one.change),
        "looks": None if one.looks is None else _then_and_now(one.looks),
        "copies": None if one.copies is None else _then_and_now(one.copies),
    }


def _inside(inside: Inside) -> dict[str, Any]:
    return {"circuit": _plain(inside.circuit), "random": _plain(inside.random), "more": _plain(inside.more)}


def _expression(expression: Expression) -> dict[str, Any]:
    return {
        "through": [str(one) for one in expression.through],
        "healed": _plain(expression.healed),
        "outputs-heal": _named(expression.heals),
        "outputs-break": _named(expression.breaks),
        "patterns-heal": _named(expression.patterns),
    }


def _recovery(recovery: Recovery) -> dict[str, Any]:
    weakest = recovery.weakest
    return {
        "how": recovery.how,
        "share": _plain(recovery.share),
        "alike": None if recovery.alike is None else _plain(recovery.alike),
        "weakest-role": None if weakest is None else {"role": weakest[0], "retained": _plain(weakest[1])},
        "knocked-out": _on_both(recovery.knocked_out),
        "carriers": {str(one.head): _then_and_now((one.before, one.after)) for one in recovery.carriers},
        **({} if recovery.circuits is None else _circuits(recovery.circuits)),
    }


def _circuits(circuits: Circuits) -> dict[str, Any]:
    """The baseline's circuit, and the rediscovered one, separately."""
    found = circuits.found
    frozen = _on_both(circuits.frozen)
    if found is None:
        return {
            "frozen": {"faithfulness": frozen},
            "rediscovered": {"prompts": circuits.prompts, "reason": circuits.reason},
        }
    return {
        "frozen": {"faithfulness": frozen},
        "rediscovered": {
            "prompts": circuits.prompts,
            "roles": {role: [str(head) for head in heads] for role, heads in found.roles.items()},
            "faithfulness": _plain(found.faithfulness),
            "jaccard": found.jaccard,
            **{name: [str(head) for head in getattr(found, name)] for name in ("kept", "gained", "lost")},
            "recast": {str(head): {"was": was, "is": is_now} for head, (was, is_now) in found.recast.items()},
        },
    }


def _on_both(figures: tuple[Figure, Figure | None]) -> dict[str, Any]:
    before, after = figures
    return {"baseline": _plain(before), "model": None if after is None else _plain(after)}


def _then_and_now(figures: tuple[Figure, Figure]) -> dict[str, Any]:
    return {"before": _plain(figures[0]), "after": _plain(figures[1])}


def _judged(one: Judged) -> dict[str, Any]:
    recovered = None if one.recovered is None else _plain(one.recovered)
    return {"verdict": one.verdict, "recovered": recovered, **({"reason": one.reason} if one.reason else {})}


def _plain(figure: Figure) -> dict[str, float]:
    return {"mean": figure.mean, "low": figure.interval.low, "high": figure.interval.high}


def _named(figures: Mapping[Any, Figure]) -> dict[str, dict[str, float]]:
    return {str(name): _plain(figure) for name, figure in figures.items()}
