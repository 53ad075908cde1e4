"""The result of a diagnosis, from what the diagnosis found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from circuit_assertions.diagnosis import Diagnosis, DiagnosisError, HeadChange, Recovery, RoleChange
from circuit_assertions.diagnosis import Figure as MeasuredFigure
from circuit_assertions.diagnosis.expression import Expression
from circuit_assertions.diagnosis.function import what_it_keeps
from circuit_assertions.diagnosis.rediscovery import Circuits
from circuit_assertions.policy import Policy
from circuit_assertions.results.base import PolicyUsed
from circuit_assertions.results.diagnosis import (
    BeforeAndAfter,
    BehaviourResult,
    BothFigures,
    DiagnosisResult,
    ExpressionFound,
    FrozenCircuit,
    HeadChanged,
    InsideCircuit,
    JudgedAssertion,
    Recast,
    RecoveryFound,
    RediscoveredCircuit,
    RestoringSet,
    RoleChanged,
    WeakestRole,
)
from circuit_assertions.results.values import Figure, MetricFacts, figures

__all__ = ["diagnosis_result"]


def diagnosis_result(diagnosis: Diagnosis) -> DiagnosisResult:
    """The result of a diagnosis.

    Raises:
        DiagnosisError: if a figure is not finite, which JSON cannot say and nobody should gate on.
    """
    try:
        return _result(diagnosis)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise DiagnosisError(f"a figure of the diagnosis of {diagnosis.model} is not finite: {where}") from error


def _result(diagnosis: Diagnosis) -> DiagnosisResult:
    behaviour, function, inside = diagnosis.behaviour, diagnosis.function, diagnosis.function.inside
    return DiagnosisResult(
        policy=PolicyUsed.of(diagnosis.policy),
        model=str(diagnosis.model),
        baseline=str(diagnosis.baseline),
        corrupted=None if diagnosis.corrupted is None else str(diagnosis.corrupted),
        circuit=diagnosis.circuit,
        task=diagnosis.task,
        settings=dict(diagnosis.settings),
        prompts=dict(diagnosis.prompts),
        metric=MetricFacts.of(diagnosis.metric),
        verdict=diagnosis.verdict,
        why=diagnosis.why,
        behaviour=BehaviourResult(
            before=Figure.of(behaviour.before),
            after=Figure.of(behaviour.after),
            retained=Figure.of(behaviour.retained),
            corrupted=_or_none(behaviour.corrupted),
        ),
        settings_changed=diagnosis.settings_changed,
        notes=diagnosis.notes,
        **_origin(diagnosis),
        roles={role.role: _role(role) for role in function.roles},
        roles_not_compared=dict(function.not_compared),
        inside_the_circuit=None
        if inside is None
        else InsideCircuit(
            circuit=Figure.of(inside.circuit), random=Figure.of(inside.random), more=Figure.of(inside.more)
        ),
        expressed=None if diagnosis.expression is None else _expression(diagnosis.expression),
        recovery=None if diagnosis.recovery is None else _recovery(diagnosis.recovery, diagnosis.policy),
        recovery_not_told=diagnosis.not_told or None,
        not_searched=diagnosis.not_searched or None,
        assertions={
            name: JudgedAssertion(verdict=one.verdict, recovered=_or_none(one.recovered), reason=one.reason or None)
            for name, one in diagnosis.assertions.items()
        },
    )


def _origin(diagnosis: Diagnosis) -> dict[str, Any]:
    origin, found = diagnosis.origin, diagnosis.origin.found
    if diagnosis.not_searched:
        nothing = dict.fromkeys(("origin", "parts", "healed", "healed_by_random"))
        return nothing | {"components": (), "changed": (), "curve": (), "breaks": {}, "groups": {}}
    return {
        "origin": origin.verdict,
        "parts": origin.parts,
        "components": () if found is None else _names(found.parts),
        "healed": None if found is None else Figure.of(found.healed),
        "healed_by_random": None if found is None else _or_none(found.random),
        "changed": _names(origin.changed),
        "curve": tuple(
            RestoringSet(components=_names(one.parts), healed=Figure.of(one.healed)) for one in origin.curve
        ),
        "breaks": figures(origin.breaks),
        "groups": figures(origin.groups),
    }


def _role(role: RoleChange) -> RoleChanged:
    return RoleChanged(
        retained=Figure.of(role.retained),
        kept=role.kept,
        weaker=role.weaker,
        works=role.works,
        asleep=role.asleep,
        heads={str(one.head): _head(one) for one in role.heads},
    )


def _head(one: HeadChange) -> HeadChanged:
    return HeadChanged(
        kind=one.kind,
        before=Figure.of(one.before),
        after=Figure.of(one.after),
        change=Figure.of(one.change),
        looks=None if one.looks is None else _then_and_now(one.looks),
        copies=None if one.copies is None else _then_and_now(one.copies),
    )


def _expression(expression: Expression) -> ExpressionFound:
    return ExpressionFound(
        through=_names(expression.through),
        healed=Figure.of(expression.healed),
        outputs_heal=figures(expression.heals),
        outputs_break=figures(expression.breaks),
        patterns_heal=figures(expression.patterns),
    )


def _recovery(recovery: Recovery, policy: Policy) -> RecoveryFound:
    weakest, circuits = recovery.weakest, recovery.circuits
    return RecoveryFound(
        how=recovery.how,
        share=Figure.of(recovery.share),
        alike=recovery.alike,
        weakest_role=None if weakest is None else _weakest(*weakest, policy),
        knocked_out=_on_both(recovery.knocked_out),
        carriers={str(one.head): _then_and_now((one.before, one.after)) for one in recovery.carriers},
        frozen=None if circuits is None else FrozenCircuit(size=circuits.size, faithfulness=_on_both(circuits.frozen)),
        rediscovered=None if circuits is None else _rediscovered(circuits),
    )


def _weakest(role: str, retained: MeasuredFigure, policy: Policy) -> WeakestRole:
    return WeakestRole(role=role, retained=Figure.of(retained), kept=what_it_keeps(retained, policy, in_sentence=True))


def _rediscovered(circuits: Circuits) -> RediscoveredCircuit:
    found = circuits.found
    if found is None:
        return RediscoveredCircuit(prompts=circuits.prompts, reason=circuits.reason)
    return RediscoveredCircuit(
        prompts=circuits.prompts,
        roles={role: _names(heads) for role, heads in found.roles.items()},
        faithfulness=Figure.of(found.faithfulness),
        jaccard=found.jaccard,
        kept=_names(found.kept),
        gained=_names(found.gained),
        lost=_names(found.lost),
        recast={str(head): Recast(was=was, now=now) for head, (was, now) in found.recast.items()},
    )


def _names(components: Iterable[object]) -> tuple[str, ...]:
    return tuple(str(component) for component in components)


def _or_none(figure: MeasuredFigure | None) -> Figure | None:
    return None if figure is None else Figure.of(figure)


def _on_both(both: tuple[MeasuredFigure, MeasuredFigure | None]) -> BothFigures:
    return BothFigures(baseline=Figure.of(both[0]), model=_or_none(both[1]))


def _then_and_now(both: tuple[MeasuredFigure, MeasuredFigure]) -> BeforeAndAfter:
    return BeforeAndAfter(before=Figure.of(both[0]), after=Figure.of(both[1]))
