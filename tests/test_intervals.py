"""Intervals that verdicts rest on: how often they miss, for one head and for many at once, and with few prompts."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from said import says
from scipy import stats

from circuit_assertions.assertions import Expectation, Judgement, Verdict, judge
from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading
from circuit_assertions.measures.intervals import (
    ALONE,
    Level,
    interval_of_mean,
    interval_of_paired_rates,
    interval_of_share,
    least_prompts,
)

Array = NDArray[np.float64]
HELD, BROKEN, UNRESOLVED = Verdict.HELD, Verdict.BROKEN, Verdict.UNRESOLVED


def reading(values: Array) -> Reading:
    names = tuple(Head(number, 0) for number in range(values.shape[1])) if values.ndim == 2 else ()
    return Reading("direct-effect" if names else "logit-difference", "logits", "value", values, names)


def judged(values: Array, needed: int | str, baseline: Array | None = None, **bounds: object) -> Judgement:
    expect = Expectation.model_validate({name.replace("_", "-"): value for name, value in bounds.items()})
    ranks = reading(values) if "rank_within" in bounds else None
    beside = None if baseline is None else reading(baseline)
    judgement = judge(reading(values), expect, needed, baseline=beside, everyone=ranks)
    assert judgement is not None
    return judgement


def share_said(said: Verdict, runs: int, verdict: Callable[[np.random.Generator], Verdict]) -> float:
    rng = np.random.default_rng(11)
    return sum(verdict(rng) is said for _ in range(runs)) / runs


# -- one mean, one share ----------------------------------------------------------------------------------------------


@pytest.mark.sample(6)
@pytest.mark.parametrize("prompts", [16, 32, 64])
@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng, size: rng.normal(size=size), 0.0),
        (lambda rng, size: rng.standard_t(4, size=size), 0.0),
        (lambda rng, size: rng.gamma(4.0, size=size), 4.0),
        (lambda rng, size: -rng.exponential(size=size), -1.0),
        (lambda rng, size: rng.integers(0, 3, size=size).astype(float), 1.0),
    ],
    ids=["normal", "heavy-tails", "skewed", "exponential", "three-values"],
)
def test_a_mean_is_covered(draw: Callable[..., Array], mean: float, prompts: int) -> None:
    rng, runs, level = np.random.default_rng(prompts), 2000, Level(0.95)
    missed = sum(
        not low <= mean <= high for low, high in (interval_of_mean(row, level) for row in draw(rng, (runs, prompts)))
    )
    assert missed / runs <= 0.06


@pytest.mark.parametrize("together", [1, 20, 144])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97, 1.0])
def test_a_share_is_covered_whatever_it_is(share: float, together: int) -> None:
    """Exactly: the chances of all counts whose interval misses the share, added up."""
    count = 40
    chances = stats.binom.pmf(range(count + 1), count, share)
    level = Level(0.95, together)
    read = (interval_of_share((np.arange(count) < hits).astype(float), level) for hits in range(count + 1))
    missed = sum(chance for chance, (low, high) in zip(chances, read, strict=True) if not low <= share <= high)
    assert missed <= 0.05 / together


@pytest.mark.parametrize("share", [1.0, 0.8, 1.25])
@pytest.mark.parametrize("chances", [(0.9, 0.0, 0.1), (0.5, 0.2, 0.3), (0.0, 0.5, 0.4), (0.98, 0.01, 0.01)])
def test_paired_rates_are_covered_whatever_they_are(chances: tuple[float, float, float], share: float) -> None:
    """Exactly: the chances of all counts of hits in both, now alone and then alone, added up where they miss."""
    count, level, missed = 12, Level(0.95, 3), 0.0
    truth = chances[0] + chances[1] - share * (chances[0] + chances[2])
    for both, gained, lost in itertools.product(range(count + 1), repeat=3):
        none = count - both - gained - lost
        if none >= 0:
            kinds = np.repeat([3, 1, 2, 0], [both, gained, lost, none])
            low, high = interval_of_paired_rates((kinds % 2).astype(float), (kinds // 2).astype(float), level, share)
            chance = stats.multinomial.pmf([both, gained, lost, none], count, [*chances, max(0, 1 - sum(chances))])
            missed += chance * (not low <= truth + 1e-12 or not truth - 1e-12 <= high)
            assert low < high
    assert missed <= 0.05 / 3


def test_a_rate_that_fell_on_no_prompt_by_luck_may_have_fallen() -> None:
    """Of differences that are all 0, the interval of a mean has no width."""
    ones = Reading("answer-rate", "share of prompts", "share", np.ones(32))
    told = [
        judge(ones, Expectation.model_validate({"retains": share}), "each", baseline=ones) for share in ("99%", "50%")
    ]
    assert [one.verdict for one in told if one is not None] == [UNRESOLVED, HELD]
    lost = Reading("answer-rate", "share of prompts", "share", (np.arange(32) < 8).astype(float))
    fell = judge(lost, Expectation.model_validate({"retains": "90%"}), "each", baseline=ones)
    assert fell is not None
    assert fell.verdict is BROKEN


def test_students_interval_is_the_core_of_it() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, 64)
    symmetric = np.concatenate([values, 4.0 - values])  # no skewness: Hall's interval is Student's
    student = stats.t.interval(1 - 0.05 / 12, 127, symmetric.mean(), stats.sem(symmetric))
    assert interval_of_mean(symmetric, Level(0.95, 12)) == pytest.approx(student)


@given(
    values=arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e3, 1e3)),
    together=st.integers(1, 500),
    scale=st.floats(0.1, 10),
    shift=st.floats(-10, 10),
)
@settings(deadline=None, max_examples=100)
def test_intervals_hold_the_mean_widen_with_more_heads_and_follow_the_unit(
    values: Array, together: int, scale: float, shift: float
) -> None:
    low, high = interval_of_mean(values, Level(0.99, together))
    slack = 1e-9 * (1 + float(np.abs(values).max()))
    assert low - slack <= values.mean() <= high + slack
    wider = interval_of_mean(values, Level(0.99, together + 1))
    assert wider.low <= low + slack
    assert wider.high >= high - slack
    if values.std() > 1e-3:
        mirrored = interval_of_mean(shift - scale * values, Level(0.99, together))
        assert mirrored == pytest.approx((shift - scale * high, shift - scale * low), rel=1e-4, abs=1e-4)


def test_values_that_are_all_the_same_by_luck_leave_room_where_the_range_is_known() -> None:
    two = interval_of_mean(np.ones(2), limits=(0.0, 1.0))
    assert two.high == 1.0
    assert two.low == pytest.approx(interval_of_share(np.ones(2)).low)
    assert interval_of_mean(np.ones(4096), limits=(0.0, 1.0)).low > 0.99
    copying = Reading("copy-score", "share of names", "value", np.ones((9, 1)), (Head(1, 0),))
    assert not copying >= 0.99
    assert copying >= 0.5


# -- heads together ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [20, 144])
def test_noise_has_no_positive_head(heads: int) -> None:
    """`any` head, `sign: positive`: HELD 43 % of the time with 20 heads, always with 144, were heads judged alone."""
    runs = 4000 // heads
    held = share_said(HELD, runs, lambda rng: judged(rng.normal(size=(64, heads)), 1, sign="positive").verdict)
    assert held <= 0.08


def test_heads_at_the_bound_are_not_broken() -> None:
    """`each` of twelve heads, whose true means are the bound: BROKEN 25 % of the time, were heads judged alone."""
    broken = share_said(BROKEN, 400, lambda rng: judged(rng.normal(1, 1, (64, 12)), "each", at_least=1.0).verdict)
    assert broken <= 0.04


def test_level_heads_have_no_certain_rank() -> None:
    """Of ten heads that read the same, none is one of the highest three for certain, and none is below them."""

    def verdict(rng: np.random.Generator) -> Verdict:
        return judged(rng.normal(size=(64, 10)), "each", rank_within=3).verdict

    assert share_said(UNRESOLVED, 100, verdict) >= 0.95


def test_a_clear_lead_is_a_rank() -> None:
    values = np.random.default_rng(2).normal(size=(64, 10)) + np.arange(10)
    judgement = judged(values, "each", rank_within=3)
    verdicts = {row.name: row.verdict for row in judgement.rows}
    assert sorted(name for name, verdict in verdicts.items() if verdict is HELD) == ["L7H0", "L8H0", "L9H0"]
    assert verdicts["L0H0"] is BROKEN


def test_any_head_that_retains_is_one_that_leads_on_the_baseline() -> None:
    """A head that never did much and still does it is no excuse for the one that did the work."""
    rng = np.random.default_rng(3)
    before = np.concatenate([rng.normal(2.0, 0.2, (64, 1)), rng.normal(0.1, 0.01, (64, 19))], axis=1)
    after = before * np.array([0.1, *[1.0] * 19])
    judgement = judged(after, 1, before, retains="80%")
    assert judgement.verdict is BROKEN
    assert [row.name for row in judgement.rows] == ["L0H0"]
    assert says(judgement.expected, "head", "baseline")
    assert judged(before, 1, before, retains="80%").verdict is HELD
    negative = judged(-after, 2, -before, retains="80%", sign="negative")
    assert {row.name for row in negative.rows} >= {"L0H0"}
    assert negative.verdict is BROKEN


# -- few prompts ------------------------------------------------------------------------------------------------------


LEAST = least_prompts(ALONE)


@pytest.mark.parametrize("prompts", [2, LEAST - 1])
def test_too_few_prompts_decide_nothing_and_the_number_is_told(prompts: int) -> None:
    judgement = judged(np.full(prompts, 5.0), "each", at_least=1.0)
    assert judgement.verdict is UNRESOLVED
    (finding,) = judgement.rows[0].findings
    assert says(finding.read, prompts, LEAST)
    assert judged(np.full(LEAST, 5.0), "each", at_least=1.0).verdict is HELD


def test_more_intervals_together_need_more_prompts() -> None:
    needed = [least_prompts(ALONE.among(together)) for together in (1, 12, 144, 10_000)]
    assert needed == sorted(set(needed))
    assert needed[-1] <= 64


# -- levels, and prompts that grow ------------------------------------------------------------------------------------


@given(confidence=st.floats(0.5, 0.9999), shares=st.lists(st.integers(1, 40), max_size=4))
def test_what_is_shared_out_is_as_much_as_there_was(confidence: float, shares: list[int]) -> None:
    level = Level(confidence)
    for count in shares:
        level = level.among(count)
    assert level.together * 2 * level.tail == pytest.approx(1 - confidence)
    assert level.of_one >= confidence - 1e-12


def test_growing_prompts_miss_no_more_often_than_bounds_of_a_group_sequential_design_may() -> None:
    """Beside the exact chance that a mean of normal values leaves its bounds at some look (scipy's integral)."""
    counts = np.array([64, 128, 256, 512])
    reach = stats.norm.isf(Level(0.95).among(len(counts)).tail)
    together = np.sqrt(np.minimum.outer(counts, counts) / np.maximum.outer(counts, counts))
    inside = stats.multivariate_normal(cov=together).cdf(np.full(4, reach), lower_limit=np.full(4, -reach))
    assert inside >= 0.95
    exact = _exact_reach(together)
    assert exact <= reach <= 1.06 * exact  # what the sum of the parts costs


def _exact_reach(together: Array) -> float:
    """The same for all looks, so that 5 % leave it at one of them."""
    from scipy.optimize import brentq

    normal = stats.multivariate_normal(cov=together, seed=0)

    def missing(reach: float) -> float:
        ends = np.full(len(together), reach)
        return float(normal.cdf(ends, lower_limit=-ends)) - 0.95

    return float(brentq(missing, 1.9, 3.0, xtol=1e-3))
