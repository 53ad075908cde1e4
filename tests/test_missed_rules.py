"""What a rule asks of a head: the rule that a head came nearest to, alternatives, and how they are counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from said import says

from circuit_assertions.assertions.chains import Chain, chain_named
from circuit_assertions.diagnosis import levels
from circuit_assertions.diagnosis.discovery.criteria import Criterion, Missed, nearest_of
from circuit_assertions.measures.intervals import Level
from circuit_assertions.policy import DEFAULT
from circuit_assertions.report.discovered import _nearest
from circuit_assertions.results.discovery import NearestRule, RuleCriterion

SHARES = st.floats(0, 1, allow_nan=False)
CRITERIA = st.builds(
    lambda reads, needed: Criterion("copy-score", reads, needed, (reads or 0.0) >= needed), st.none() | SHARES, SHARES
)


@given(CRITERIA)
@settings(deadline=None)
def test_nothing_is_lacking_of_what_is_met_and_all_of_what_was_not_read(criterion: Criterion) -> None:
    assert 0 <= criterion.lacking <= 1
    assert (criterion.lacking == 0) == criterion.met
    if criterion.reads is None and not criterion.met:
        assert criterion.lacking == 1


@given(st.lists(st.lists(CRITERIA, min_size=1, max_size=4), max_size=4))
@settings(deadline=None)
def test_the_nearest_lacks_least_of_what_it_lacks_most(rules: list[list[Criterion]]) -> None:
    missed = [Missed(f"role-{number}", "logits", tuple(criteria)) for number, criteria in enumerate(rules)]
    nearest = nearest_of(missed)
    assert (nearest is None) == (not rules)
    if nearest is not None:
        most = [round(max(one.lacking for one in rule.criteria), 2) for rule in missed]
        assert most[missed.index(nearest)] == min(most)


def test_of_equals_the_first_rule_of_the_chain_is_the_nearest() -> None:
    rules = [Missed(role, "logits", (Criterion("copy-score", 0.4, 0.8, False),)) for role in ("first", "second")]
    assert nearest_of(rules) is rules[0]


def test_what_is_missed_is_told_first_with_what_is_needed() -> None:
    looks: dict[str, Any] = {"name": "attention end -> receiver", "reads": 0.49}
    criteria = (
        RuleCriterion(**looks, needed=0.1, met=True),
        RuleCriterion(**looks, needed=0.3, met=True, more_than="giver"),
        RuleCriterion(name="copy-score", reads=0.4, needed=0.75, met=False),
        RuleCriterion(name="induction-score", reads=None, needed=0.3, met=False),
    )
    told = _nearest(NearestRule(role="writer", stage="logits", criteria=criteria))
    assert says(
        told, "writer", "copy-score 0.40, 75%", "induction-score not read, 30%", "attention end -> receiver 0.49"
    )
    assert told.endswith("0.49")
    away = RuleCriterion(**looks, needed=0.61, met=False, more_than="giver")
    told = _nearest(NearestRule(role="writer", stage="logits", criteria=(criteria[0], away)))
    assert says(told, "attention end -> receiver 0.49", "more than", "giver 0.61")


# -- alternatives ------------------------------------------------------------------------------------------------------


def chain_of(*rules: dict[str, Any]) -> Chain:
    given_by = [{"attends": {"from": "end", "to": "receiver"}, **rule} for rule in rules]
    roles: dict[str, Any] = {rule["role"]: {} for rule in rules}
    return Chain.model_validate({"chain": "x", "roles": roles, "stages": [{"to": "logits", "rules": given_by}]})


AWAY = {"from": "end", "to": "giver"}


@pytest.mark.parametrize(
    ("rules", "parts"),
    [
        ([{"role": "a"}], 1),
        ([{"role": "a", "scores": {"copy-score": "75%"}}, {"role": "a", "scores": {"copy-in-context": "90%"}}], 1),
        ([{"role": "a"}, {"role": "b", "sign": "negative"}], 1),  # an effect has one sign
        ([{"role": "a"}, {"role": "b", "attends": AWAY}], 2),
        ([{"role": "a"}, {"role": "a", "attends": AWAY}, {"role": "b", "attends": AWAY}], 2),
        ([{"role": "a"}, {"role": "b", "attends": AWAY, "sign": "negative"}], 1),
    ],
)
def test_the_level_is_shared_by_the_places_that_rules_for_one_sign_ask_about(
    rules: list[dict[str, Any]], parts: int
) -> None:
    assert levels.of_discovery(DEFAULT, chain_of(*rules), 20) == Level.of_figures(DEFAULT).among(parts * 20)


def test_alternatives_leave_the_level_of_the_packaged_chain_as_it_is() -> None:
    chain = chain_named("ioi")
    seen: set[tuple[str, str]] = set()
    stages = []
    for stage in chain.stages:
        first = [rule for rule in stage.rules if (stage.name, rule.role) not in seen]
        alone = {rule.role: rule for rule in reversed(first)}
        stages.append(stage.model_copy(update={"rules": tuple(alone.values())}))
    without = chain.model_copy(update={"stages": tuple(stages)})
    assert sum(len(stage.rules) for stage in without.stages) < sum(len(stage.rules) for stage in chain.stages)
    assert levels.of_discovery(DEFAULT, without, 20) == levels.of_discovery(DEFAULT, chain, 20)


def test_a_score_that_has_a_position_is_read_where_the_head_attends_to() -> None:
    asked = {"copy-in-context": "90%", "copy-score": "75%"}
    (rule,) = chain_of({"role": "a", "scores": asked, "attends": AWAY}).stages[0].rules
    assert [score.operands for score in rule.own_scores] == [{"at": "giver"}, {}]
