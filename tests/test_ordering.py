"""Rounding decides no order: what differs in its last digits alone is printed in the same order, everywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_diagnosed_report import HEALED, text_of
from test_report import WAVE, asked, read, told
from test_trajectory_report import run_picture, trajectory

from circuit_assertions.diagnosis import expression
from circuit_assertions.diagnosis.function import share_as_told, what_it_keeps
from circuit_assertions.diagnosis.recovery import _weakest
from circuit_assertions.heads import Head
from circuit_assertions.measures import Interval
from circuit_assertions.measures.figures import Figure
from circuit_assertions.measures.intervals import Level
from circuit_assertions.measures.kinds.edges import _level
from circuit_assertions.ordering import ranked
from circuit_assertions.policy import DEFAULT

HUNDREDTHS = st.integers(-300, 300).map(lambda number: number / 100)
NOISE = st.floats(-1e-7, 1e-7)
FLAT = WAVE - WAVE.mean()
ROLES = ("backup-name-mover", "induction", "name-mover", "previous-token", "s-inhibition")


def moved(values: Sequence[float], noise: Sequence[float]) -> list[float]:
    """The values as another order of sums would give them."""
    return [value * (1 + little) + 1e-2 * little for value, little in zip(values, noise, strict=True)]


FIVE = st.lists(HUNDREDTHS, min_size=5, max_size=5)
FIVE_NOISES = st.lists(NOISE, min_size=5, max_size=5)


@given(FIVE, FIVE_NOISES)
def test_level_things_stay_in_the_order_in_which_they_come(values: list[float], noise: list[float]) -> None:
    order = ranked(range(5), values.__getitem__, decimals=2)
    assert order == ranked(range(5), moved(values, noise).__getitem__, decimals=2)
    assert order == sorted(range(5), key=lambda place: (-values[place], place))


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4), FIVE_NOISES)
def test_where_values_are_not_printed_they_are_told_apart_by_their_share_of_the_largest(
    values: list[int], noise: list[float]
) -> None:
    known = [1000.0, *map(float, values)]
    assert ranked(range(5), known.__getitem__) == ranked(range(5), moved(known, noise).__getitem__)
    assert ranked(range(5), known.__getitem__) == sorted(range(5), key=lambda place: (-known[place], place))


def test_nothing_and_only_zeros_have_an_order_too() -> None:
    assert ranked([], float) == []
    assert ranked("cab", lambda letter: 0.0) == ["c", "a", "b"]
    assert ranked("cab", ord, decimals=0) == ["c", "b", "a"]


@given(st.permutations(ROLES), FIVE, FIVE_NOISES)
def test_the_weakest_role_is_the_first_by_name_of_those_that_are_told_alike(
    order: Sequence[str], values: list[float], noise: list[float]
) -> None:
    shares = {role: Figure(value, Interval(-9, 9)) for role, value in zip(ROLES, values, strict=True)}
    other = {role: Figure(value, Interval(-9, 9)) for role, value in zip(ROLES, moved(values, noise), strict=True)}
    weakest, again = _weakest(shares, DEFAULT), _weakest({role: other[role] for role in order}, DEFAULT)
    assert weakest is not None
    assert again is not None
    assert (weakest[0], what_it_keeps(weakest[1], DEFAULT)) == (again[0], what_it_keeps(again[1], DEFAULT))
    least = min(share_as_told(share, DEFAULT) for share in shares.values())
    assert weakest[0] == min(role for role in ROLES if share_as_told(shares[role], DEFAULT) == least)


@pytest.mark.parametrize("little", [1e-7, -1e-7, 0.0])
def test_two_roles_that_keep_nothing_are_told_in_one_order(little: float) -> None:
    shares = {"s-inhibition": Figure(little, Interval(0, 0)), "name-mover": Figure(-little, Interval(0, 0))}
    assert HEALED.recovery is not None
    said = text_of(replace(HEALED, recovery=replace(HEALED.recovery, weakest=_weakest(shares, DEFAULT))))
    told = re.search(r"\bweakest\b.*?\b(name-mover|s-inhibition)\b.*?\b(none|\d+%)", " ".join(said.split()))
    assert told is not None
    assert told.groups() == ("name-mover", "none")


LOOKING = {
    "each": asked("a", "attention", heads="name-mover", query="end", key="end", expect={"at-least": 4.0}),
    "any": asked("a", "attention", heads="any", query="end", key="end", expect={"at-least": 4.0}),
    "at most": asked("a", "attention", heads="name-mover", query="end", key="end", expect={"at-most": -4.0}),
}


@pytest.mark.parametrize("which", LOOKING)
@given(st.lists(st.integers(0, 3), min_size=5, max_size=5), FIVE_NOISES)
@settings(deadline=None, max_examples=20)
def test_a_failure_reads_the_same(which: str, steps: list[int], noise: list[float]) -> None:
    heads = [Head(layer, 0) for layer in range(5)]
    values = [step / 10 for step in steps]
    one, other = (
        read("attention", *(value + 0.1 * FLAT for value in column), heads=heads)
        for column in (values, moved(values, noise))
    )
    assert told(LOOKING[which], one) == told(LOOKING[which], other)


@given(st.lists(st.sampled_from([-0.5, 0.0, 0.5]), min_size=12, max_size=12), st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_the_worst_prompts_are_the_same(values: list[float], seed: int) -> None:
    noise = np.random.default_rng(seed).uniform(-1e-7, 1e-7, len(values)).tolist()
    margin = asked("a", "logit-difference", expect={"at-least": 2.0})
    one, other = (told(margin, read("logit-difference", np.array(column))) for column in (values, moved(values, noise)))
    assert one.partition("  worst ")[2] == other.partition("  worst ")[2] != ""


LEVEL = Level.of_figures().among(5)


@given(FIVE, FIVE_NOISES)
def test_components_that_bring_back_as_much_are_named_in_the_models_order(
    values: list[float], noise: list[float]
) -> None:
    heads = [Head(1, place) for place in range(5)]
    one, other = (
        expression.Shares(
            ({head: np.full(16, value) for head, value in zip(heads, column, strict=True)},), LEVEL
        ).in_order()
        for column in (values, moved(values, noise))
    )
    assert one == other


@given(st.lists(st.integers(0, 100), min_size=5, max_size=5), FIVE_NOISES)
def test_edges_have_one_order(values: list[int], noise: list[float]) -> None:
    known = np.array([100.0, *values])
    other: NDArray[np.float64] = np.array(moved(known.tolist(), [*noise, 0.0]))
    assert np.argsort(-_level(known), kind="stable").tolist() == np.argsort(-_level(other), kind="stable").tolist()


@pytest.mark.parametrize("little", [1e-9, -1e-9])
def test_names_at_the_ends_of_lines_stand_in_one_order(little: float) -> None:
    found = trajectory(".....")
    pictures = []
    for shift in (0.0, little):
        roles = {"b": Figure(0.5 + shift, Interval(0, 1)), "a": Figure(0.5 - shift, Interval(0, 1))}
        pictures.append(run_picture(replace(found, steps=tuple(replace(step, roles=roles) for step in found.steps))))
    assert pictures[0] == pictures[1]
