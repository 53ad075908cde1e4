"""What is said of a head, of a role and of both together: from effects that are given, and where none can be given."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from auditing import HEALTHY, ioi
from diagnosis_cases import CIRCUIT, COMMITTED, Side, one
from hypothesis import given, settings
from hypothesis import strategies as st
from said import says

from circuit_assertions.assertions.chains import chain_for
from circuit_assertions.assertions.circuits import Roles, everyone_in
from circuit_assertions.diagnosis import Figure, Function, HeadChange, RoleChange
from circuit_assertions.diagnosis.function import compare_functions
from circuit_assertions.diagnosis.head_change import Seen, change_of
from circuit_assertions.diagnosis.overall_verdict import Behaviour, overall
from circuit_assertions.diagnosis.view import Array, ByHead, View
from circuit_assertions.heads import Head
from circuit_assertions.measures import Interval
from circuit_assertions.measures.head_sets import random_sets
from circuit_assertions.measures.intervals import Level
from circuit_assertions.measures.shares import above_zero
from circuit_assertions.policy import DEFAULT
from circuit_assertions.verdict_words import Overall

HEAD = Head(3, 2)
TRIFLE = 0.1
VARIED = np.random.default_rng(0).normal(0.5, 2.0, 24)  # an effect that differs from prompt to prompt
VARIED += 0.5 - VARIED.mean()


def changed(then: Array, now: Array, tests: int = 4) -> HeadChange:
    before, after = (Seen(ByHead((HEAD,), values[:, None])) for values in (then, now))
    return change_of(HEAD, "name-mover", before, after, TRIFLE, Level(0.95, tests), DEFAULT)


def test_a_head_that_is_its_own_negative_prompt_by_prompt_has_flipped_though_its_mean_is_not_clear() -> None:
    found = changed(VARIED, -VARIED)
    assert found.change.interval.low < 0 < found.change.interval.high
    assert found.kind == "sign flipped"


def test_a_head_whose_mean_is_clearly_on_the_other_side_has_flipped_whatever_its_prompts_do() -> None:
    assert changed(VARIED, VARIED - 4).kind == "sign flipped"


def test_a_head_of_which_neither_mean_nor_prompts_say_the_sign_is_unclear() -> None:
    steady = np.linspace(1.9, 2.1, 24)
    found = changed(steady, VARIED - 0.95)
    assert found.after.mean == pytest.approx(-0.45)
    assert found.after.interval.low < 0 < found.after.interval.high
    assert found.kind == "sign unclear"


def test_the_more_heads_are_judged_together_the_surer_a_sign_has_to_be() -> None:
    steady, then = np.linspace(1.9, 2.1, 24), VARIED - 1.4
    assert changed(steady, then, tests=1).kind == "sign flipped"
    found = changed(steady, then, tests=12)
    assert found.kind == "sign unclear"
    assert found.after.interval.low < 0 < found.after.interval.high  # as it is shown


@pytest.mark.parametrize("after", [-0.35, -TRIFLE / 2, 0.0, 0.35])
def test_a_head_of_which_a_fifth_or_a_trifle_is_left_is_silenced_on_either_side_of_zero(after: float) -> None:
    steady = np.linspace(1.9, 2.1, 24)
    assert changed(steady, after + VARIED - 0.5).kind == "silenced"


@pytest.mark.parametrize("scale", [0.1, -0.1])
def test_a_trifle_has_no_sign_to_lose(scale: float) -> None:
    small = VARIED * scale  # a mean below the trifle
    assert changed(small, -small).kind == "intact"
    assert changed(VARIED, VARIED * scale).kind == "intact"  # nor does what has become one


@given(st.integers(0, 10_000), st.sampled_from([16, 32, 64]), st.floats(-1, 1))
@settings(deadline=None)
def test_what_does_nearly_what_it_did_on_every_prompt_has_not_flipped(seed: int, prompts: int, mean: float) -> None:
    rng = np.random.default_rng(seed)
    then = rng.normal(mean, 2.0, prompts)
    now = then + rng.normal(0.0, 0.3, prompts)
    assert changed(then, now).kind not in ("sign flipped", "sign unclear")


def figure(mean: float, low: float, high: float) -> Figure:
    return Figure(mean, Interval(low, high))


STEADY = changed(np.linspace(1.9, 2.1, 24), np.linspace(1.9, 2.1, 24))
AS_BEFORE = Behaviour(figure(6.6, 6.3, 6.9), figure(6.5, 6.2, 6.8), figure(0.98, 0.95, 1.01))


def role(retained: Figure, name: str = "name-mover") -> RoleChange:
    return RoleChange(name, retained, (STEADY, STEADY))


@pytest.mark.parametrize(
    ("retained", "verdict", "said"),
    [
        (figure(-0.04, -0.2, 0.12), "CORRUPTED", ("the behaviour holds", "name-mover")),
        (figure(-0.36, -0.6, 0.1), "CORRUPTED", ("name-mover", "reversed", "-36%")),
        (figure(0.45, 0.4, 0.49), "CORRUPTED", ("the behaviour holds", "name-mover", "45%")),
        (figure(0.45, 0.2, 0.7), "DEGRADED", ("name-mover", "45%")),
        (figure(0.45, 0.1, 0.8), "DEGRADED", ("name-mover", "45%", "(uncertain)")),
        (figure(0.45, -0.1, 1.0), "INTACT", ("name-mover", "45%", "(uncertain)")),
        (figure(0.9, 0.2, 1.6), "INTACT", ("name-mover", "90%", "(uncertain)")),
        (figure(0.73, 0.7, 0.77), "DEGRADED", ("name-mover", "73%")),
        (figure(0.86, 0.85, 0.87), "DEGRADED", ("name-mover", "86%")),
        (figure(0.88, 0.83, 0.93), "INTACT", ("every role works",)),
        (figure(0.9, 0.8, 1.0), "INTACT", ("every role works",)),
    ],
)
def test_a_role_is_judged_by_its_own_interval_whether_or_not_a_head_changed(
    retained: Figure, verdict: str, said: tuple[str, ...]
) -> None:
    found, why = overall(AS_BEFORE, Function((role(retained), role(figure(1.0, 0.9, 1.1), "induction"))), DEFAULT)
    assert found == verdict
    assert says(why, *said)
    assert says(why, "(uncertain)") == ("(uncertain)" in said)
    assert not says(why, "induction")


@pytest.mark.parametrize(
    ("retained", "verdict"),
    [
        (figure(0.68, 0.61, 0.76), "CORRUPTED"),  # less is left, and that some is lost is certain
        (figure(0.68, 0.40, 0.96), "INTACT"),  # nothing lost for certain: too few prompts to say
        (figure(0.68, 0.42, 0.94), "DEGRADED"),  # some is lost for certain, and how much is not
        (figure(0.76, 0.75, 0.77), "DEGRADED"),
        (figure(0.94, 0.93, 0.949), "DEGRADED"),
        (figure(0.95, 0.92, 0.98), "INTACT"),
        (figure(-0.50, -0.60, -0.40), "CORRUPTED"),
    ],
)
def test_behaviour_of_which_less_than_three_quarters_is_left_is_corrupted_where_a_loss_is_certain(
    retained: Figure, verdict: str
) -> None:
    assert overall(replace(AS_BEFORE, retained=retained), Function(()), DEFAULT)[0] == verdict


@pytest.mark.parametrize("asleep", [False, True])
def test_a_role_that_is_asleep_degrades_nothing(asleep: bool) -> None:
    weak = replace(role(figure(0.7, 0.6, 0.8), "backup-name-mover"), asleep=asleep)
    found, why = overall(AS_BEFORE, Function((weak, role(figure(1.0, 0.9, 1.1)))), DEFAULT)
    assert found == ("INTACT" if asleep else "DEGRADED")
    assert says(why, "backup-name-mover", "70%")


@pytest.mark.parametrize(
    ("behaviour", "weak", "strong", "verdict"),
    [
        (figure(1.0, 0.95, 1.05), figure(0.7, 0.6, 0.8), figure(1.6, 1.5, 1.7), "DEGRADED"),
        (figure(1.5, 1.4, 1.6), figure(0.7, 0.6, 0.8), figure(1.0, 0.9, 1.1), "DEGRADED"),
        (figure(0.9, 0.88, 0.92), figure(1.0, 0.9, 1.1), figure(1.6, 1.5, 1.7), "DEGRADED"),
        (figure(1.5, 1.4, 1.6), figure(1.0, 0.9, 1.1), figure(1.0, 0.9, 1.1), "AMPLIFIED"),
        (figure(1.5, 1.4, 1.6), figure(0.3, 0.2, 0.4), figure(1.6, 1.5, 1.7), "CORRUPTED"),
    ],
)
def test_what_is_stronger_does_not_make_up_for_what_is_weaker_and_is_told_beside_it(
    behaviour: Figure, weak: Figure, strong: Figure, verdict: str
) -> None:
    function = Function((role(weak), role(strong, "induction")))
    found, why = overall(replace(AS_BEFORE, retained=behaviour), function, DEFAULT)
    assert found == verdict
    stronger = ["the behaviour"] * (behaviour.mean > 1.25) + ["induction"] * (strong.mean > 1.25)
    if verdict != "CORRUPTED":
        assert why.endswith(f": {', '.join(stronger)}")
        assert says(why, "stronger")


STRONGER, NO_STRONGER = figure(2.0, 1.8, 2.2), figure(1.2, 1.1, 1.3)


@pytest.mark.parametrize(
    ("behaviour", "left", "against", "verdict"),
    [
        (STRONGER, figure(0.2, -0.1, 0.5), True, "AMPLIFIED"),
        (STRONGER, figure(0.2, 0.1, 0.3), True, "AMPLIFIED"),  # lost for certain, and the answer gained it
        (STRONGER, figure(-0.5, -0.7, -0.3), True, "CORRUPTED"),  # it turned
        (STRONGER, figure(0.2, 0.1, 0.3), False, "CORRUPTED"),
        (NO_STRONGER, figure(0.2, 0.1, 0.3), True, "CORRUPTED"),
        (NO_STRONGER, figure(0.6, 0.5, 0.7), True, "DEGRADED"),
    ],
)
def test_a_weaker_role_against_the_answer_is_no_loss_where_the_behaviour_is_stronger(
    behaviour: Figure, left: Figure, against: bool, verdict: str
) -> None:
    before = -VARIED if against else VARIED
    one = RoleChange("negative-name-mover", left, (changed(before, 0.2 * before),))
    assert one.opposes == against
    found, why = overall(replace(AS_BEFORE, retained=behaviour), Function((one,)), DEFAULT)
    assert found == verdict
    if verdict == "AMPLIFIED":
        assert says(why, "stronger", "negative-name-mover", "20%", "against the answer")


@given(st.floats(-1, 2), st.floats(0, 0.5), st.floats(-1, 2), st.floats(0, 0.5))
def test_intact_is_never_said_of_what_is_clearly_less_than_clean_fine_tuning_leaves(
    behaviour: float, reach: float, of_role: float, role_reach: float
) -> None:
    kept = figure(behaviour, behaviour - reach, behaviour + reach)
    movers = figure(of_role, of_role - role_reach, of_role + role_reach)
    found, _ = overall(replace(AS_BEFORE, retained=kept), Function((role(movers),)), DEFAULT)
    less = kept.interval.high < DEFAULT.degraded_below or movers.interval.high < DEFAULT.degraded_role_below
    assert (found in ("DEGRADED", "CORRUPTED")) == less or found == "CORRUPTED"
    assert found in Overall


def test_what_was_not_compared_is_not_said_to_work() -> None:
    works = role(figure(0.9, 0.8, 1.0))
    some = Function((works,), not_compared={"induction": "it has no effect"})
    for function in (some, Function(())):
        why = overall(AS_BEFORE, function, DEFAULT)[1]
        assert says(why, "98%")
        assert "compare" in why
        assert not says(why, "every role works")


def test_a_role_that_is_lost_does_not_hide_a_head_that_turned() -> None:
    turned = replace(changed(VARIED, -VARIED), role="name-mover")
    movers = RoleChange("name-mover", figure(0.9, 0.8, 1.0), (turned,))
    found = overall(AS_BEFORE, Function((movers, role(figure(0.1, 0.0, 0.2), "induction"))), DEFAULT)
    verdict, why = found
    assert verdict == "CORRUPTED"
    assert says(why, "induction", "10%", "L3H2 (name-mover)", "reversed")


@pytest.fixture(scope="module")
def side() -> Side:
    return Side()


def compared(side: Side, roles: Roles, name: str, prompts: int = 32) -> Function:
    task = ioi(prompts=prompts)
    views = (View(side.audit, one(folder), task) for folder in (HEALTHY, COMMITTED / name))
    return compare_functions(chain_for(task, "ioi"), roles, *views)


@pytest.mark.complete
def test_roles_that_have_no_effect_to_compare_are_named_with_the_reason(side: Side) -> None:
    effects = View(side.audit, one(HEALTHY), ioi(prompts=32)).by_head("path-effect")
    idle = tuple(head for head in effects.heads if not Figure.of_values(effects.of(head)).clear)[:1]
    roles = {**CIRCUIT.roles, "negative-name-mover": idle, "comma-counter": idle}
    found = compared(side, roles, "benign")
    assert {one.role for one in found.roles} == set(CIRCUIT.roles)
    assert set(found.not_compared) == {"negative-name-mover", "comma-counter"}
    assert says(found.not_compared["negative-name-mover"], "baseline", "zero")
    assert says(found.not_compared["comma-counter"], "ioi", "roles")
    assert compared(side, CIRCUIT.roles, "benign").not_compared == {}


@pytest.mark.parametrize("name", ["benign", "poisoned-heads"])
@pytest.mark.complete
def test_chance_is_the_mean_over_every_circuit_with_as_many_heads_in_each_layer(side: Side, name: str) -> None:
    found = compared(side, CIRCUIT.roles, name).inside
    assert found is not None
    views = [View(side.audit, one(folder), ioi(prompts=32)) for folder in (HEALTHY, COMMITTED / name)]
    then, now = (view.by_head("path-effect") for view in views)
    moved = dict(zip(then.heads, above_zero(now.values - then.values).mean(axis=0), strict=True))
    circuit = everyone_in(CIRCUIT.roles)
    by_layer = [
        list(combinations([head for head in then.heads if head.layer == layer], count))
        for layer in range(5)
        if (count := sum(head.layer == layer for head in circuit))
    ]
    every = [sum(moved[head] for heads in chosen for head in heads) for chosen in product(*by_layer)]
    assert found.random.mean == pytest.approx(np.mean(every) / sum(moved.values()))
    assert found.more.mean == pytest.approx(found.circuit.mean - found.random.mean)
    assert len(every) > len(random_sets(side.healthy, circuit))
