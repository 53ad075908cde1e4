"""What a diagnosis says: to a person in a screenful, to a program as figures with their intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from said import says
from syrupy.assertion import SnapshotAssertion

from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.components import Mlp, Norms, Part
from circuit_assertions.diagnosis import Diagnosis, DiagnosisError, Figure, Function, HeadChange, Origin, RoleChange
from circuit_assertions.diagnosis.expression import Expression
from circuit_assertions.diagnosis.function import Change, Inside
from circuit_assertions.diagnosis.lenses import Behaviour
from circuit_assertions.diagnosis.origin import Healing
from circuit_assertions.diagnosis.recovery import Carrier, Recovery
from circuit_assertions.diagnosis.rediscovery import Circuits, Rediscovered
from circuit_assertions.diagnosis.suite_verdicts import Judged
from circuit_assertions.heads import Head
from circuit_assertions.measures import Interval
from circuit_assertions.report.diagnosed import diagnosis_lines as lines_of_result
from circuit_assertions.results.from_diagnosis import diagnosis_result
from circuit_assertions.verdict_words import OriginVerdict, Overall, RecoveryVerdict


def diagnosis_lines(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return list(lines_of_result(diagnosis_result(diagnosis)))


def figure(mean: float, reach: float = 0.02) -> Figure:
    return Figure(mean, Interval(mean - reach, mean + reach))


def changed(head: Head, kind: Change, before: float, after: float, **more: tuple[float, float]) -> HeadChange:
    scores: dict[str, Any] = {name: (figure(then), figure(now)) for name, (then, now) in more.items()}
    return HeadChange(head, "name-mover", kind, figure(before), figure(after), figure(after - before), **scores)


def inside(circuit: float, random: float) -> Inside:
    return Inside(figure(circuit), figure(random), figure(circuit - random))


INTACT = RoleChange("s-inhibition", figure(1.03), (changed(Head(1, 0), "intact", 0.26, 0.27),))
MOVERS = RoleChange(
    "name-mover",
    figure(-1.57),
    (
        changed(Head(3, 0), "sign flipped", 1.14, -1.51),
        changed(Head(3, 1), "attention moved", 0.85, 0.71, looks=(0.49, 0.12), copies=(0.99, 0.98)),
        changed(Head(3, 2), "amplified", 0.59, 0.98),
    ),
)
UNCLEAR = replace(changed(Head(3, 1), "sign unclear", 1.5, -2.07), after=Figure(-2.07, Interval(-4.22, 0.08)))
LOCALIZED = Origin(
    OriginVerdict.LOCALIZED,
    32,
    (Head(3, 0), Head(3, 1), Norms(3), Mlp(4)),
    {Head(3, 0): figure(0.41), Mlp(4): figure(0.0)},
    (
        Healing((Head(3, 0),), figure(0.55)),
        Healing((Head(3, 0), Head(3, 1)), figure(0.94), random=figure(0.12), values=np.array([0.9, 0.98])),
    ),
    {"all heads": figure(0.98), "all MLPs": figure(0.01)},
)
DIFFUSE = replace(
    LOCALIZED, verdict=OriginVerdict.DIFFUSE, curve=(Healing((Mlp(0), Mlp(1), Head(2, 2)), figure(0.61), random=None),)
)
UNCHANGED = Origin(OriginVerdict.UNCHANGED, 32, (Head(3, 0), Mlp(4)))
EXPRESSED = Expression(
    (Mlp(4), Head(3, 1)), figure(0.92), {Mlp(4): figure(0.7)}, {Head(3, 1): figure(0.3)}, {Head(3, 0): figure(0.5)}
)
FOUND = Rediscovered(
    {"name-mover": (Head(3, 0), Head(4, 1)), "s-inhibition": (Head(1, 0),)},
    figure(1.15),
    kept=(Head(1, 0), Head(3, 0)),
    gained=(Head(4, 1),),
    lost=(Head(3, 1),),
    jaccard=0.5,
    recast={Head(1, 0): ("unexplained", "s-inhibition")},
)
HEALTHY = Diagnosis(
    model=Checkpoint("tuned model"),
    baseline=Checkpoint("healthy"),
    corrupted=None,
    task="ioi",
    circuit="ioi",
    verdict=Overall.INTACT,
    why="101% of the behaviour is kept, and every role works",
    behaviour=Behaviour(figure(6.62), figure(6.67), figure(1.01)),
    function=Function((INTACT,), inside(0.96, 0.71)),
    origin=UNCHANGED,
    expression=None,
    recovery=None,
    settings={"semantics": "through-mlps"},
)
BROKEN = replace(
    HEALTHY,
    verdict=Overall.CORRUPTED,
    why="the behaviour is reversed: the model prefers the wrong answer",
    behaviour=Behaviour(figure(6.62), figure(-2.55), figure(-0.38)),
    function=Function((MOVERS, INTACT), inside(0.96, 0.71)),
    origin=LOCALIZED,
    expression=EXPRESSED,
)
HEALED = replace(
    HEALTHY,
    corrupted=Checkpoint("poisoned"),
    behaviour=replace(HEALTHY.behaviour, corrupted=figure(-2.55)),
    recovery=Recovery(
        RecoveryVerdict.RECOVERED,
        figure(0.91),
        0.97,
        ("s-inhibition", figure(1.03)),
        (figure(0.69), figure(0.68)),
        circuits=Circuits(3, 256, (figure(1.1), figure(1.12)), FOUND),
    ),
)
NO_HEAD = "no head carries 2% of the logit difference"
NOT_NAMED = "no head is named so"
AROUND = replace(
    HEALED,
    verdict=Overall.CORRUPTED,
    why="the behaviour holds, but name-mover keeps 0% of its effect",
    function=Function((replace(MOVERS, retained=figure(-0.001)), INTACT), inside(0.99, 0.96)),
    recovery=Recovery(
        RecoveryVerdict.BYPASSED,
        figure(1.02),
        0.1,
        ("name-mover", figure(-0.001)),
        (figure(0.69), figure(-0.004)),
        (Carrier(Head(4, 1), figure(0.04), figure(1.33)), Carrier(Head(4, 2), figure(0.01), figure(1.26))),
        Circuits(3, 256, (figure(1.1), figure(1.02)), reason=NO_HEAD),
    ),
)
CASES: Mapping[str, Diagnosis] = {
    "corrupted and localized": BROKEN,
    "corrupted and diffuse": replace(BROKEN, origin=DIFFUSE),
    "corrupted, nothing heals": replace(BROKEN, origin=replace(DIFFUSE, curve=())),
    "intact": HEALTHY,
    "intact, the very weights": replace(HEALTHY, origin=Origin(OriginVerdict.UNCHANGED, 32)),
    "amplified": replace(
        HEALTHY,
        verdict=Overall.AMPLIFIED,
        why="stronger than on the baseline: name-mover",
        function=Function((RoleChange("name-mover", figure(1.6), MOVERS.heads[2:]), INTACT), inside(0.9, 0.7)),
    ),
    "degraded": replace(
        HEALTHY,
        verdict=Overall.DEGRADED,
        why="86% [84%, 88%] of the behaviour is left, and every role works",
        behaviour=Behaviour(figure(6.62), figure(5.69), figure(0.86)),
        origin=LOCALIZED,
        expression=EXPRESSED,
        prompts={
            "task": 256,
            "behaviour": 128,
            "origin-search": 43,
            "origin-choice": 43,
            "origin-report": 42,
            "expression": 64,
        },
    ),
    "intact, and a loss of which nothing is certain": replace(
        HEALTHY,
        behaviour=Behaviour(figure(6.62), figure(5.69), Figure(0.86, Interval(0.74, 0.98))),
        origin=LOCALIZED,
        prompts={"task": 16, "behaviour": 16},
    ),
    "recovered": HEALED,
    "bypassed": AROUND,
    "not recovered": replace(
        BROKEN,
        corrupted=Checkpoint("poisoned"),
        recovery=Recovery(
            RecoveryVerdict.NOT_RECOVERED,
            figure(0.03),
            None,
            None,
            (figure(0.69), figure(-0.4)),
            circuits=Circuits(3, 256, (figure(1.1), None), reason="the model does not do the task"),
        ),
    ),
    "recovered, assertion by assertion": replace(
        HEALED,
        assertions={
            "prefers-the-indirect-object": Judged("HELD", recovered=figure(0.91)),
            "copies": Judged("UNRESOLVED"),
            "negative-movers": Judged("SKIPPED", NOT_NAMED),
            "curve": Judged("ERROR", "the reading holds NaN"),
        },
    ),
    "the corrupted one had lost nothing": replace(HEALED, recovery=None),
    "the corrupted one does not fit": replace(
        HEALED, behaviour=HEALTHY.behaviour, recovery=None, not_told="poisoned has 3 layers, healthy 5"
    ),
    "roles of which little is known": replace(
        HEALTHY,
        function=Function(
            (
                RoleChange("name-mover", Figure(0.45, Interval(0.1, 0.8)), MOVERS.heads[2:]),
                RoleChange("s-inhibition", Figure(0.45, Interval(0.1, 0.8)), INTACT.heads),
                RoleChange("induction", Figure(0.45, Interval(0.2, 0.7)), INTACT.heads),
                RoleChange("duplicate-token", Figure(-0.07, Interval(-0.2, 0.1)), (UNCLEAR,)),
            ),
            not_compared={"previous-token": "its effect on the baseline is not clear of zero on these prompts"},
        ),
    ),
    "no circuit known": replace(HEALTHY, function=Function(())),
    "recovery without a circuit": replace(HEALED, function=Function(()), recovery=None),
}


def text_of(diagnosis: Diagnosis) -> str:
    return "\n".join(line for line, _ in diagnosis_lines(diagnosis))


@pytest.mark.parametrize("case", CASES)
def test_what_a_person_reads(case: str, snapshot: SnapshotAssertion) -> None:
    assert text_of(CASES[case]) == snapshot


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_is_the_first_word_that_carries_a_colour(case: str) -> None:
    carried = [verdict for _, verdict in diagnosis_lines(CASES[case]) if verdict]
    assert carried[0] == CASES[case].verdict


def test_figures_and_heads_are_not_torn_apart_where_lines_wrap() -> None:
    many = tuple(changed(Head(layer, 10), "sign flipped", 1.0, -1.0) for layer in range(12))
    wide = replace(BROKEN, function=Function((RoleChange("name-mover", figure(-1.0), many),)))
    lines = text_of(wide).splitlines()
    told = [line for line in lines if "sign flipped" in line]
    assert len(told) > 3
    assert sum(line.count("sign flipped (+1.00 -> -1.00)") for line in told) == 12
    assert all(len(line) <= 110 for line in lines if not line.startswith("fix"))


def test_what_differs_is_named_where_it_is_little_and_roles_have_room_for_the_longest_name() -> None:
    role = replace(INTACT, role="negative-name-mover")
    said = text_of(replace(HEALTHY, function=Function((role,))))
    assert "\nroles      negative-name-mover  intact (1 of 1)" in said
    origin = said.partition("\norigin ")[2].partition("\n")[0]
    assert says(origin, "2 of 32 components", "(L3H0, MLP4)")
    everything = replace(UNCHANGED, changed=tuple(Head(layer, 0) for layer in range(20)))
    origin = text_of(replace(HEALTHY, origin=everything)).partition("\norigin ")[2].partition("\n")[0]
    assert says(origin, "20 of 32 components")
    assert not says(origin, "L0H0")


def test_the_command_that_fixes_can_be_pasted() -> None:
    fix = next(line for line in text_of(BROKEN).splitlines() if line.startswith("fix"))
    command = "circuit-assertions graft --model 'tuned model' --from healthy --components L3H0,L3H1 -o fixed"
    assert fix == f"fix        {command}"
    assert "graft" not in text_of(CASES["corrupted and diffuse"])


@pytest.mark.parametrize("verdict", ["INTACT", "AMPLIFIED", "DEGRADED", "CORRUPTED"])
@pytest.mark.parametrize("origin", [LOCALIZED, DIFFUSE, UNCHANGED], ids=lambda origin: origin.verdict)
def test_an_origin_and_a_repair_are_told_only_beside_a_loss(verdict: Overall, origin: Origin) -> None:
    said = text_of(replace(HEALTHY, verdict=verdict, origin=origin))
    lost = verdict in ("DEGRADED", "CORRUPTED")
    for word in ("LOCALIZED", "DIFFUSE"):
        assert (word in said) == (lost and origin.verdict == word)
    assert ("\nfix " in said) == (lost and origin.verdict == "LOCALIZED")


def test_how_many_prompts_each_part_read_is_told_to_both() -> None:
    origin = {"origin-search": 171, "origin-choice": 171, "origin-report": 170}
    read = {"task": 512, "behaviour": 512, **origin, "rediscovery": 512}
    found = replace(CASES["recovered, assertion by assertion"], prompts=read)
    assert json.loads(as_json(found))["prompts"] == read
    said = " ".join(text_of(found).partition("\nprompts ")[2].split())
    told = said.partition(" assertions ")[0]
    assert [word for word in told.split() if word.isdigit()] == ["512", "171", "171", "170", "512"]


def test_a_program_reads_every_figure_with_its_interval() -> None:
    said = json.loads(as_json(replace(BROKEN, recovery=AROUND.recovery)))
    assert said["verdict"] == "CORRUPTED"
    assert said["origin"] == "LOCALIZED"
    assert said["components"] == ["L3H0", "L3H1"]
    assert said["healed"] == {"mean": 0.94, "low": pytest.approx(0.92), "high": pytest.approx(0.96)}
    mover = said["roles"]["name-mover"]
    assert mover["retained"]["mean"] == -1.57
    assert mover["heads"]["L3H1"]["kind"] == "attention moved"
    looks = mover["heads"]["L3H1"]["looks"]
    assert (looks["before"]["mean"], looks["after"]["mean"]) == (0.49, 0.12)
    assert said["recovery"]["how"] == "BYPASSED"
    assert said["recovery"]["share"]["low"] == pytest.approx(1.0)
    assert said["recovery"]["weakest_role"]["role"] == "name-mover"
    assert said["recovery"]["carriers"]["L4H1"]["after"]["low"] == pytest.approx(1.31)
    assert said["recovery"]["knocked_out"]["baseline"]["high"] == pytest.approx(0.71)
    assert said["inside_the_circuit"]["more"]["mean"] == pytest.approx(0.25)
    figures = [value for value in _dictionaries(said) if "mean" in value]
    assert len(figures) > 25
    assert all(set(value) == {"mean", "low", "high"} for value in figures)


def test_the_frozen_circuit_and_the_one_found_anew_are_told_apart() -> None:
    said = json.loads(as_json(HEALED))["recovery"]
    assert said["frozen"]["faithfulness"]["model"]["mean"] == 1.12
    found = said["rediscovered"]
    assert (found["kept"], found["gained"], found["lost"]) == (["L1H0", "L3H0"], ["L4H1"], ["L3H1"])
    assert found["recast"] == {"L1H0": {"was": "unexplained", "now": "s-inhibition"}}
    none = json.loads(as_json(AROUND))["recovery"]["rediscovered"]
    known = {key: value for key, value in none.items() if value is not None}
    assert known == {"prompts": 256, "reason": NO_HEAD}
    lost = json.loads(as_json(CASES["not recovered"]))["recovery"]
    assert lost["frozen"]["faithfulness"]["model"] is None


def test_what_could_not_be_compared_has_its_reason_in_json() -> None:
    little = json.loads(as_json(CASES["roles of which little is known"]))
    assert set(little["roles_not_compared"]) == {"previous-token"}
    assert json.loads(as_json(HEALTHY))["roles_not_compared"] == {}
    misfit = json.loads(as_json(CASES["the corrupted one does not fit"]))
    assert misfit["recovery_not_told"] == "poisoned has 3 layers, healthy 5"
    assert json.loads(as_json(HEALED))["recovery_not_told"] is None


def test_recovery_is_told_assertion_by_assertion() -> None:
    told = json.loads(as_json(CASES["recovered, assertion by assertion"]))["assertions"]
    assert told["prefers-the-indirect-object"]["recovered"]["low"] == pytest.approx(0.89)
    assert told["copies"] == {"verdict": "UNRESOLVED", "recovered": None, "reason": None}
    assert told["negative-movers"]["reason"] == NOT_NAMED


def test_what_was_not_looked_for_is_null_and_never_missing() -> None:
    said = json.loads(as_json(HEALTHY))
    assert set(said) == set(json.loads(as_json(BROKEN)))
    assert said["origin"] == "UNCHANGED"
    assert said["components"] == []
    assert [said[key] for key in ("healed", "expressed", "recovery", "corrupted")] == [None] * 4


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_an_error_and_no_json(value: float) -> None:
    broken = replace(HEALTHY, behaviour=replace(HEALTHY.behaviour, retained=figure(value)))
    with pytest.raises(DiagnosisError, match=r"tuned model.*not finite"):
        as_json(broken)


def test_components_have_their_names_in_both() -> None:
    parts: tuple[Part, ...] = (Norms(3), Mlp(4))
    found = replace(BROKEN, origin=replace(LOCALIZED, curve=(Healing(parts, figure(0.95)),)))
    assert json.loads(as_json(found))["components"] == [str(part) for part in parts]
    assert "restore 95% [93%, 97%] of the loss: NORM3 MLP4" in " ".join(text_of(found).split())


def as_json(diagnosis: Diagnosis) -> str:
    return diagnosis_result(diagnosis).to_json()


def _dictionaries(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [value, *(inner for one in value.values() for inner in _dictionaries(one))]
    return [inner for one in value for inner in _dictionaries(one)] if isinstance(value, list) else []
