"""Readings: their means, the intervals of their kind, and their columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading
from circuit_assertions.measures.intervals import ALONE, interval_of_share

Array = NDArray[np.float64]
HEADS = (Head(0, 1), Head(2, 0), Head(1, 3))
NUMBERS = st.floats(-1e3, 1e3, allow_nan=False)
SAMPLES = hnp.arrays(np.float64, st.integers(2, 40), elements=NUMBERS)


def by_head(values: Array, kind: str = "value") -> Reading:
    return Reading("attention", "share of attention", kind, values, HEADS[: values.shape[1]])


@given(hits=hnp.arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([0.0, 1.0])))
@settings(max_examples=40, deadline=None)
def test_the_share_lies_in_its_interval(hits: Array) -> None:
    low, high = interval_of_share(hits)
    assert 0.0 <= low <= hits.mean() <= high <= 1.0
    assert low < high


def test_a_share_without_exception_reaches_the_end_exactly() -> None:
    """A high end of 0.9999999999999999 would break `at-least: 1.0` on a model without a single failure."""
    assert {interval_of_share(np.ones(prompts)).high for prompts in range(1, 300)} == {1.0}
    assert {interval_of_share(np.zeros(prompts)).low for prompts in range(1, 300)} == {0.0}


@given(values=SAMPLES, seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_order_of_prompts_does_not_change_the_mean(values: Array, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(values)
    mean, other = (Reading("loss", "nats", "value", each).mean for each in (values, shuffled))
    assert other == pytest.approx(mean, rel=1e-9, abs=1e-9)


def test_a_share_and_a_value_have_their_own_intervals() -> None:
    hits = np.ones(10)
    assert Reading("answer-rate", "share of prompts", "share", hits).interval(hits, ALONE) == interval_of_share(hits)
    assert Reading("logit-difference", "logits", "value", hits).interval(hits, ALONE) == (1.0, 1.0)


def test_a_reading_without_heads_has_one_column() -> None:
    values = np.arange(4.0)
    taken = Reading("loss", "nats", "value", values)
    ((head, column),) = taken.columns()
    assert head is None
    np.testing.assert_array_equal(column, values)
    assert (taken.prompts, taken.mean) == (4, 1.5)


def test_heads_keep_their_columns_whatever_the_order() -> None:
    values = np.arange(12.0).reshape(4, 3)
    taken = by_head(values)
    turned = taken.only((HEADS[2], HEADS[0]))
    assert turned.heads == (HEADS[2], HEADS[0])
    assert [head for head, _ in turned.columns()] == [HEADS[2], HEADS[0]]
    for head, column in turned.columns():
        assert head is not None
        np.testing.assert_array_equal(column, taken.of_head(head))
        np.testing.assert_array_equal(column, values[:, HEADS.index(head)])
    assert (turned.measure, turned.unit, turned.kind) == (taken.measure, taken.unit, taken.kind)
