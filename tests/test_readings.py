"""Readings: intervals that cover, are the same every time, and stay paired."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading, reading
from circuit_assertions.measures.reading import bootstrap_means, interval_of_mean, interval_of_share

Array = NDArray[np.float64]
HEADS = (Head(0, 1), Head(2, 0), Head(1, 3))
NUMBERS = st.floats(-1e3, 1e3, allow_nan=False)
SAMPLES = hnp.arrays(np.float64, st.integers(2, 40), elements=NUMBERS)


def by_head(values: Array, kind: str = "value") -> Reading:
    return Reading("attention", "share of attention", kind, values, HEADS[: values.shape[1]])


@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng: rng.normal(2.0, 1.0, 64), 2.0),
        (lambda rng: rng.uniform(-1.0, 1.0, 64), 0.0),
        (lambda rng: rng.beta(2.0, 5.0, 64), 2 / 7),  # attention: between 0 and 1, skewed
    ],
    ids=["normal", "uniform", "skewed"],
)
def test_intervals_of_means_cover(draw: object, mean: float) -> None:
    rng = np.random.default_rng(7)
    assert callable(draw)
    intervals = [interval_of_mean(draw(rng)) for _ in range(300)]
    assert 0.92 <= np.mean([low <= mean <= high for low, high in intervals]) <= 0.98


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_intervals_of_shares_cover(share: float) -> None:
    rng = np.random.default_rng(11)
    intervals = [interval_of_share((rng.random(64) < share).astype(np.float64)) for _ in range(300)]
    assert 0.92 <= np.mean([low <= share <= high for low, high in intervals]) <= 0.98


@pytest.mark.parametrize(
    ("hits", "prompts", "low", "high"),
    [(10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilsons_interval_is_the_published_one(hits: int, prompts: int, low: float, high: float) -> None:
    """81 of 263 is the example of Newcombe 1998 (Statistics in Medicine 17, table I)."""
    got = interval_of_share(np.repeat([1.0, 0.0], [hits, prompts - hits]))
    np.testing.assert_allclose(got, (low, high), atol=5e-5)


def test_a_share_without_exception_reaches_the_end_exactly() -> None:
    """A high end of 0.9999999999999999 would break `at-least: 1.0` on a model without a single failure."""
    assert {interval_of_share(np.ones(prompts)).high for prompts in range(1, 300)} == {1.0}
    assert {interval_of_share(np.zeros(prompts)).low for prompts in range(1, 300)} == {0.0}


@given(value=NUMBERS, prompts=st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_a_constant_has_an_interval_without_width(value: float, prompts: int) -> None:
    assert interval_of_mean(np.full(prompts, value)) == (value, value)


@given(values=SAMPLES)
@settings(max_examples=40, deadline=None)
def test_the_mean_lies_in_its_interval(values: Array) -> None:
    low, high = interval_of_mean(values)
    rounding = 1e-9 * np.abs(values).max()
    assert low - rounding <= values.mean() <= high + rounding


@given(hits=hnp.arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([0.0, 1.0])))
@settings(max_examples=40, deadline=None)
def test_the_share_lies_in_its_interval(hits: Array) -> None:
    low, high = interval_of_share(hits)
    assert 0.0 <= low <= hits.mean() <= high <= 1.0
    assert low < high


@given(values=SAMPLES, factor=st.floats(0.1, 10), shift=NUMBERS)
@settings(max_examples=30, deadline=None)
def test_intervals_follow_the_unit(values: Array, factor: float, shift: float) -> None:
    """Logits or millilogits, shifted or not: the verdict must not depend on it."""
    moved = np.array(interval_of_mean(factor * values + shift))
    np.testing.assert_allclose(moved, factor * np.array(interval_of_mean(values)) + shift, rtol=1e-6, atol=1e-6)


@given(values=SAMPLES, seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_order_of_prompts_does_not_change_the_mean(values: Array, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(values)
    mean, other = (Reading("loss", "nats", "value", each).mean for each in (values, shuffled))
    assert other == pytest.approx(mean, rel=1e-9, abs=1e-9)


@given(values=SAMPLES)
@settings(max_examples=20, deadline=None)
def test_the_same_values_give_the_same_interval(values: Array) -> None:
    first = interval_of_mean(values)
    reading._kept_weights.cache_clear()  # as in another process
    assert interval_of_mean(values.copy()) == first


def test_more_prompts_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)
    few, many = (interval_of_mean(rng.normal(size=count)) for count in (30, 3000))
    assert many.high - many.low < 0.2 * (few.high - few.low)


def test_columns_are_resampled_together() -> None:
    """Two heads that differ by 0.1 on every prompt differ by 0.1 in every resample, however the prompts scatter."""
    base = np.random.default_rng(1).normal(0.0, 5.0, 64)
    means = bootstrap_means(np.stack([base, base + 0.1, 3 * base], axis=1))  # [resamples, columns]
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 0.1, atol=1e-12)
    np.testing.assert_allclose(means[:, 2], 3 * means[:, 0], atol=1e-12)
    assert means[:, 0].std() > 0.1


def test_two_readings_of_the_same_prompts_stay_paired() -> None:
    base = np.random.default_rng(2).normal(0.0, 5.0, (64, 1))
    np.testing.assert_allclose(bootstrap_means(base + 0.1) - bootstrap_means(base), 0.1, atol=1e-12)


def test_a_share_and_a_value_have_their_own_intervals() -> None:
    hits = np.ones(10)
    assert Reading("answer-rate", "share of prompts", "share", hits).interval(hits) == interval_of_share(hits)
    assert Reading("logit-difference", "logits", "value", hits).interval(hits) == (1.0, 1.0)


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
