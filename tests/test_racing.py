"""Races of a discovery: what leaves is too small, what stays is read as without a race, and it is less work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from auditing import HEALTHY, Audited, ioi
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.racing import compare
from circuit_assertions.assertions.chains import chain_for
from circuit_assertions.diagnosis import levels
from circuit_assertions.diagnosis.discovery.racing import Race, looks_of
from circuit_assertions.diagnosis.view import View
from circuit_assertions.engine.work import counted_work
from circuit_assertions.heads import Head
from circuit_assertions.measures.intervals import intervals_of_means
from circuit_assertions.policy import DEFAULT
from circuit_assertions.request import Request
from circuit_assertions.tasks import Prompt, PromptSet

TASK = ioi(prompts=64)
CHAIN = chain_for(TASK, "circuit")


@pytest.fixture(scope="module")
def healthy() -> Audited:
    return Audited(HEALTHY)


def prompt_set(templates: list[str]) -> PromptSet:
    prompts = [Prompt((number,), str(number), {"end": 0}, template=name) for number, name in enumerate(templates)]
    return PromptSet(tuple(prompts))


# -- looks ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abcde"), min_size=2, max_size=200))
def test_every_prompt_is_read_at_one_look(templates: list[str]) -> None:
    looks = looks_of(prompt_set(templates))
    assert sorted(row for rows in looks for row in rows) == list(range(len(templates)))
    assert len(looks) == 1 or min(map(len, looks)) >= 16


@given(st.lists(st.sampled_from("abcde"), min_size=32, max_size=200))
def test_the_first_look_has_every_template_about_as_often(templates: list[str]) -> None:
    first = looks_of(prompt_set(templates))[0]
    counts = {name: sum(templates[row] == name for row in first) for name in set(templates)}
    spare = [counts[name] for name in counts if counts[name] < templates.count(name)]
    assert max(counts.values()) - min(spare, default=max(counts.values())) <= 1


# -- what stays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.complete) for seed in range(20)])
def test_no_head_is_lost_and_the_others_are_read_the_same(healthy: Audited, seed: int) -> None:
    found = compare(healthy.audit, healthy.checkpoint, ioi(prompts=256, seed=seed), seed, splits=0)
    assert found.heads > 10
    assert found.lost == ()
    assert found.other_roles == ()
    assert found.largest_difference < 1e-5
    assert found.raced.rows < found.alone.rows


def test_a_race_reads_of_those_that_stay_what_would_be_read_of_them_anyway(healthy: Audited) -> None:
    view = View(healthy.audit, healthy.checkpoint, TASK)
    race = Race.of(CHAIN, view, pays=True)
    stage = CHAIN.stages[0]
    floor = 0.1 * float(view.behaviour().mean())
    (read,) = race.readings(stage, stage.readings({}), view, floor)
    plain = Audited(HEALTHY).read("path-effect", TASK)
    left = [head for head in plain.heads if head not in read.heads]
    assert left
    for head in read.heads:
        np.testing.assert_allclose(read.of(head), plain.of_head(head), atol=1e-5)
    assert all(abs(plain.of_head(head).mean()) < floor for head in left)
    assert read.reading is not None
    assert read.reading.settings["token_hash"] == plain.settings["token_hash"]
    assert list(read.reading.texts) == list(plain.texts)


def test_a_part_of_the_prompts_is_searched_among_the_heads_that_stayed(healthy: Audited) -> None:
    view = View(healthy.audit, healthy.checkpoint, TASK)
    race, stage = Race.of(CHAIN, view, pays=True), CHAIN.stages[0]
    (whole,) = race.readings(stage, stage.readings({}), view, 1.0)
    (half,) = race.readings(stage, stage.readings({}), view.halves()[0], 1.0)
    assert half.heads == whole.heads
    assert half.values.shape == (32, len(whole.heads))


def test_where_every_head_leaves_nothing_is_left(healthy: Audited) -> None:
    view = View(Audited(HEALTHY).audit, healthy.checkpoint, TASK)
    race, stage = Race.of(CHAIN, view, pays=True), CHAIN.stages[0]
    (read,) = race.readings(stage, stage.readings({}), view, 1e6)
    assert read.heads == ()
    assert read.values.shape == (64, 0)


def test_small_models_are_read_at_once(healthy: Audited) -> None:
    view = View(healthy.audit, healthy.checkpoint, TASK)
    assert not Race.of(CHAIN, view).runs
    assert Race.of(CHAIN, view, pays=True).runs


def test_a_stage_without_receivers_costs_nothing(healthy: Audited) -> None:
    assert CHAIN.stages[1].readings({}) == ()
    healthy.read("path-effect", TASK, Head(0, 0), receiver=receiver(Head(2, 1)))  # runs the prompts themselves
    with counted_work() as below:
        healthy.read("path-effect", TASK, Head(1, 0), receiver=receiver(Head(2, 1)))
    with counted_work() as above:
        read = healthy.read("path-effect", TASK, Head(4, 0), receiver=receiver(Head(2, 1)))
    assert not read.values.any()
    assert above.rows == below.rows  # those that were read before are read again, and none more


def receiver(head: Head) -> Any:
    from circuit_assertions.measures import Receiver

    return Receiver("q", (head,), "end")


# -- the error --------------------------------------------------------------------------------------------------------


def test_heads_at_the_bound_leave_no_more_often_than_the_policy_says() -> None:
    """All heads have just the smallest effect that counts, with skewed readings; a run fails if any of them leaves."""
    heads, runs, looks, floor = 20, 200, (16, 32, 64), 1.0
    level = levels.of_exits(DEFAULT, CHAIN, heads, len(looks))
    drawn = np.random.default_rng(0)
    failed = 0
    for _ in range(runs):
        values = drawn.exponential(floor, size=(looks[-1], heads))
        high = np.stack([intervals_of_means(values[:count], level)[:, 1] for count in looks])
        failed += bool((high < floor).any())
    # 1 % of the runs may fail: 2; the chance of more than 7 is below 1 in 1,000.
    assert failed <= 7


def test_exits_and_intervals_share_the_error_of_the_figures() -> None:
    exits = levels.of_exits(DEFAULT, CHAIN, levels.RACED_FROM, 3)
    stays = levels.of_discovery(DEFAULT, CHAIN, levels.RACED_FROM)
    together = (1 - exits.confidence) + (1 - stays.confidence)
    assert together == pytest.approx(1 - DEFAULT.figure_confidence)
    without_a_race = levels.of_discovery(DEFAULT, CHAIN, levels.RACED_FROM - 1)
    assert without_a_race.confidence == DEFAULT.figure_confidence


# -- prompts of a request ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(rows=st.lists(st.integers(0, 63), min_size=2, max_size=12, unique=True))
def test_some_prompts_are_read_as_all_of_them_are(healthy: Audited, rows: list[int]) -> None:
    heads = (Head(3, 2), Head(1, 0))
    whole = healthy.read("path-effect", TASK, *heads)
    request = Request("path-effect", TASK, (), heads, tuple(rows))
    some = healthy.audit.read(request, healthy.checkpoint)
    np.testing.assert_allclose(some.values, whole.of_prompts(rows).values, atol=1e-5)
    assert list(some.texts) == [whole.texts[row] for row in rows]
