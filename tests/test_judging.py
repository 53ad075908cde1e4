"""Verdicts: HELD where the whole interval is good, BROKEN where all of it is bad, UNRESOLVED in between."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from auditing import ioi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from said import says

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Expectation, Judgement, Verdict, describe, judge
from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES, Measure, Reading
from circuit_assertions.measures.intervals import interval_of_mean
from circuit_assertions.tasks import LOGIT_DIFFERENCE, AnswerMetric

Array = NDArray[np.float64]
HELD, BROKEN, UNRESOLVED = Verdict.HELD, Verdict.BROKEN, Verdict.UNRESOLVED
RNG = np.random.default_rng(5)
NO_SIGN = 1e-5
NOISE: Array = RNG.normal(0.0, 1.0, 64)
NOISE -= NOISE.mean()
CENTRES = st.floats(-5, 5)
SPREADS = st.floats(0.0, 3.0)


def expect(**bounds: Any) -> Expectation:
    return Expectation.model_validate({name.replace("_", "-"): value for name, value in bounds.items()})


def model(values: Array, kind: str = "value", **settings: Any) -> Reading:
    return Reading("logit-difference", "logits", kind, values, settings=settings, rounding=NO_SIGN)


def heads(*columns: Array, **settings: Any) -> Reading:
    names = tuple(Head(layer, 0) for layer in range(len(columns)))
    return Reading("direct-effect", "logits", "value", np.stack(columns, axis=1), names, settings)


def judged(
    reading: Reading, needed: int | str = "each", /, *, baseline: Reading | None = None, **bounds: Any
) -> Judgement:
    everyone = reading if "rank_within" in bounds else None
    judgement = judge(reading, expect(**bounds), needed, baseline=baseline, everyone=everyone)
    assert judgement is not None
    return judgement


def verdict(reading: Reading, needed: int | str = "each", /, **given: Any) -> Verdict:
    return judged(reading, needed, **given).verdict


def placed(low: float, high: float, interval: tuple[float, float]) -> Verdict:
    """What must be said of an interval when [low, high] is good."""
    if low <= interval[0] and interval[1] <= high:
        return HELD
    return BROKEN if interval[1] < low or interval[0] > high else UNRESOLVED


@given(centre=CENTRES, spread=SPREADS, bound=CENTRES)
@settings(max_examples=60, deadline=None)
def test_bounds(centre: float, spread: float, bound: float) -> None:
    reading = model(centre + spread * NOISE)
    interval = interval_of_mean(reading.values)
    assert verdict(reading, at_least=bound) is placed(bound, np.inf, interval)
    assert verdict(reading, at_most=bound) is placed(-np.inf, bound, interval)
    assert verdict(reading, between=[bound, bound + 1.0]) is placed(bound, bound + 1.0, interval)


@given(centre=CENTRES, spread=SPREADS)
@settings(max_examples=40, deadline=None)
def test_signs(centre: float, spread: float) -> None:
    reading = model(centre + spread * NOISE)
    low, high = interval_of_mean(reading.values)
    positive = HELD if low >= NO_SIGN else BROKEN if high < NO_SIGN else UNRESOLVED
    negative = HELD if high <= -NO_SIGN else BROKEN if low > -NO_SIGN else UNRESOLVED
    assert verdict(reading, sign="positive") is positive
    assert verdict(reading, sign="negative") is negative


def test_silence_is_neither_positive_nor_negative() -> None:
    silent = model(np.zeros(64))
    assert verdict(silent, sign="positive") is verdict(silent, sign="negative") is BROKEN


def test_rounding_gives_silence_no_sign() -> None:
    """What float32 leaves of an effect that is none, seen on name movers that write nothing."""
    rounded = model(1e-6 * NOISE)
    assert verdict(rounded, sign="positive") is verdict(rounded, sign="negative") is BROKEN


@given(low=st.floats(-9, 9), high=st.floats(-9, 9), name=st.sampled_from(("direct-effect", "path-effect")))
def test_what_is_rounding_follows_from_the_range_of_the_tasks_metric(low: float, high: float, name: str) -> None:
    spec, task = MEASURES[name], ioi()
    assert (spec.range_on(task), spec.rounding_on(task)) == ((None, None), NO_SIGN)
    theirs = replace(LOGIT_DIFFERENCE, name="theirs", unit="points", lowest=min(low, high), highest=max(low, high))

    class Scored(type(task)):  # type: ignore[misc]
        @property
        def answer_metric(self) -> AnswerMetric:
            return theirs

    scored = Scored.model_validate(task.model_dump(by_alias=True))
    width = abs(low - high)
    assert spec.range_on(scored) == (-width, width)
    assert spec.rounding_on(scored) == pytest.approx(1e-6 * width)
    assert list(expect(sign="negative").problems(spec, scored)) == [] or width == 0


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda one: one.name)
@pytest.mark.parametrize(("low", "high"), [(0.0, None), (0.5, 2.0), (None, 0.0), (-2.0, -0.5), (-1.0, 1.0), (0.0, 1.0)])
def test_a_sign_is_refused_where_the_measures_range_has_one_side(
    measure: Measure, low: float | None, high: float | None
) -> None:
    spec = replace(measure, lowest=low, highest=high)
    for side, never in (("positive", low is not None and low >= 0), ("negative", high is not None and high <= 0)):
        other = "negative" if side == "positive" else "positive"
        can_never = [message for given in (side, other) for _, message in expect(sign=given).problems(spec)]
        assert sum(says(message, spec.name, f"never {other}") for message in can_never) == (2 if never else 0)


@pytest.mark.parametrize("value", [0.1, 0.3, 1.0, 2 / 3])
@pytest.mark.parametrize("prompts", [16, 64, 100])
def test_a_bound_that_is_met_exactly_holds(value: float, prompts: int) -> None:
    constant = model(np.full(prompts, value))
    assert verdict(constant, at_least=value) is verdict(constant, at_most=value) is HELD


@pytest.mark.parametrize("prompts", [8, 10, 64, 487])
def test_a_model_without_a_failure_never_breaks_a_rate(prompts: int) -> None:
    """No number of prompts shows that a rate is exactly 1: such a bound stays open, and must not break."""
    always = model(np.ones(prompts), "share")
    assert verdict(always, at_least=1.0) is UNRESOLVED
    assert verdict(always, at_most=1.0) is HELD


def test_several_bounds_must_all_hold() -> None:
    reading = model(1.0 + 0.01 * NOISE)
    assert verdict(reading, at_least=0.5, at_most=2.0, sign="positive") is HELD
    assert verdict(reading, at_least=1.0, at_most=2.0) is UNRESOLVED
    assert verdict(reading, at_least=1.0, between=[1.5, 2.0]) is BROKEN


@pytest.mark.parametrize(
    ("met", "mostly", "said"), [(100, "80%", HELD), (92, "80%", HELD), (80, "80%", UNRESOLVED), (60, "80%", BROKEN)]
)
def test_mostly_judges_the_share_of_prompts(met: int, mostly: str, said: Verdict) -> None:
    values = np.repeat([1.0, -50.0], [met, 100 - met])
    assert verdict(model(values), sign="positive", mostly=mostly) is said
    (row,) = judged(model(values), at_least=0.5, mostly=mostly).rows
    assert row.findings[0].read.startswith(f"met by {met}.0% [")


def test_mostly_wants_all_bounds_of_one_prompt_at_once() -> None:
    values = np.tile([0.0, 3.0], 50)  # each bound is met by half of the prompts, both by none
    assert verdict(model(values), at_least=1.0, at_most=2.0, mostly="40%") is BROKEN


@pytest.mark.parametrize(("needed", "said"), [(1, "; for any head"), (3, "; for at least 3 heads"), ("each", "")])
def test_expectations_in_words(needed: int | str, said: str) -> None:
    assert describe(expect(at_least=0.45, sign="positive"), needed) == "at least 0.45, positive" + said
    everything = expect(between=[1, 2], at_most=1.5, mostly="90%", rank_within=3, retains="80%")
    said = describe(everything)
    assert says(said, "at most 1.5", "between 1 and 2", "90%", "rank within 3", "retains 80%")
    assert re.findall(r"[\d.]+", said) == ["1.5", "1", "2", "90", "3", "80"]


# Ranks


def of_means(*means: float, noise: float = 0.1) -> Reading:
    return heads(*(mean + noise * np.roll(NOISE, 7 * index) for index, mean in enumerate(means)))


def rank(reading: Reading, head: int, k: int, **bounds: Any) -> Verdict:
    own = reading.only((Head(head, 0),))
    judgement = judge(own, expect(rank_within=k, **bounds), "each", everyone=reading)
    assert judgement is not None
    return judgement.verdict


def test_ranks_of_clear_values() -> None:
    reading = of_means(3.0, 1.0, 2.0, -4.0)
    for head, place in enumerate((1, 3, 2, 4)):
        for k in range(1, 5):
            assert rank(reading, head, k) is (HELD if place <= k else BROKEN)


def test_ranks_from_below() -> None:
    reading = of_means(3.0, 1.0, -2.0, -4.0)
    assert rank(reading, 3, 1, sign="negative") is HELD
    assert rank(reading, 2, 1, sign="negative") is BROKEN
    assert rank(reading, 2, 2, sign="negative") is HELD
    assert rank(reading, 1, 3, sign="negative") is BROKEN  # third from below, but positive


def test_ranks_within_the_noise() -> None:
    reading = of_means(1.0, 1.001, 5.0, noise=1.0)
    assert rank(reading, 0, 2) is rank(reading, 1, 2) is UNRESOLVED
    assert rank(reading, 2, 1) is HELD
    assert rank(reading, 0, 3) is HELD


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3])
def test_heads_that_are_level_are_not_ranked(value: float) -> None:
    """A dead model, all of whose heads look everywhere alike, must not hold that one of them is first."""
    reading = heads(*[np.full(64, value)] * 6)
    assert [rank(reading, head, 1) for head in range(6)] == [UNRESOLVED] * 6
    assert [rank(reading, head, 6) for head in range(6)] == [HELD] * 6
    tied_behind_one = heads(np.full(64, value + 1.0), *[np.full(64, value)] * 3)
    assert rank(tied_behind_one, 0, 1) is HELD
    assert rank(tied_behind_one, 2, 1) is BROKEN


# The baseline


@pytest.mark.parametrize("direction", [1.0, -1.0])
@pytest.mark.parametrize(
    ("left", "said"), [(1.3, HELD), (1.0, HELD), (0.85, HELD), (0.75, BROKEN), (0.0, BROKEN), (-1.0, BROKEN)]
)
def test_retains(direction: float, left: float, said: Verdict) -> None:
    before = direction * (3.0 + 0.3 * NOISE)
    assert verdict(model(left * before), baseline=model(before), retains="80%") is said


def test_retains_within_the_noise() -> None:
    before = 3.0 + 0.3 * NOISE
    assert verdict(model(2.4 + np.roll(NOISE, 9)), baseline=model(before), retains="80%") is UNRESOLVED


def test_retains_is_judged_prompt_by_prompt() -> None:
    """Prompts that differ wildly among themselves hide nothing, as long as each keeps its share."""
    before = 10.0 + 5.0 * NOISE
    assert verdict(model(before - 0.1), baseline=model(before), retains="98%") is HELD
    assert verdict(model(np.roll(before, 9) - 0.1), baseline=model(before), retains="98%") is UNRESOLVED


@pytest.mark.parametrize("reading", [NOISE, NOISE + 50.0, np.zeros(64)])
def test_a_baseline_near_zero_resolves_nothing(reading: Array) -> None:
    (row,) = judged(model(reading), baseline=model(0.1 * NOISE), retains="80%").rows
    assert row.verdict is UNRESOLVED
    assert says(row.findings[0].read, "baseline", "zero")
    assert not row.amplified


@given(centre=st.floats(0.1, 5), spread=st.floats(0, 0.2), direction=st.sampled_from([1.0, -1.0]))
@settings(max_examples=30, deadline=None)
def test_a_model_against_itself_retains_everything(centre: float, spread: float, direction: float) -> None:
    values = direction * (centre + spread * NOISE)
    judgement = judged(model(values), baseline=model(values.copy()), retains="100%")
    assert judgement.verdict is HELD
    assert judgement.rows[0].baseline == judgement.rows[0].mean
    assert not judgement.amplified


@pytest.mark.parametrize(("factor", "amplified"), [(1.0, False), (1.2, False), (1.3, True), (4.0, True)])
@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_far_more_than_the_baseline_is_noted(factor: float, amplified: bool, direction: float) -> None:
    before = direction * (2.0 + 0.2 * NOISE)
    judgement = judged(model(factor * before), baseline=model(before), retains="80%")
    assert judgement.verdict is HELD
    assert judgement.amplified is amplified


def test_what_is_broken_is_never_amplified() -> None:
    before = 2.0 + 0.1 * NOISE
    judgement = judged(model(3.0 * before), baseline=model(before), at_most=3.0)
    assert judgement.verdict is BROKEN
    assert not judgement.amplified
    assert not judgement.rows[0].amplified
    flipped = judged(model(-3.0 * before), baseline=model(before), retains="80%")
    assert flipped.verdict is BROKEN
    assert not flipped.amplified


def test_without_a_baseline_only_the_rest_is_judged() -> None:
    reading = model(2.0 + 0.1 * NOISE)
    assert judge(reading, expect(retains="80%"), "each") is None
    judgement = judged(reading, sign="positive", retains="80%")
    assert judgement.verdict is HELD
    assert judgement.not_judged == ("retains 80% of the baseline (no --baseline was given)",)
    assert "retains" not in judgement.expected
    assert judged(reading, baseline=reading, sign="positive", retains="80%").not_judged == ()


@pytest.mark.parametrize("key", ["token_hash", "operands"])
def test_readings_of_other_questions_are_not_compared(key: str) -> None:
    ours, theirs = model(NOISE + 3.0, **{key: "a"}), model(NOISE + 3.0, **{key: "b"})
    with pytest.raises(CircuitAssertionsError, match=f"differ in {key}"):
        judge(ours, expect(retains="80%"), "each", baseline=theirs)


# Quantifiers

COLUMN = {HELD: 3.0 + 0.1 * NOISE, BROKEN: -3.0 + 0.1 * NOISE, UNRESOLVED: 0.0 + 0.1 * NOISE}
TABLE = list(itertools.combinations_with_replacement((HELD, UNRESOLVED, BROKEN), 3))


@pytest.mark.parametrize("three", TABLE, ids=lambda three: "-".join(map(str, three)))
def test_quantifiers_know_three_values(three: tuple[Verdict, ...]) -> None:
    reading = heads(*(COLUMN[each] for each in three))
    held, possible = three.count(HELD), 3 - three.count(BROKEN)
    each = BROKEN if BROKEN in three else UNRESOLVED if UNRESOLVED in three else HELD
    assert verdict(reading, "each", sign="positive") is each
    for needed in (1, 2, 3):
        some = HELD if held >= needed else UNRESOLVED if possible >= needed else BROKEN
        assert verdict(reading, needed, sign="positive") is some
    assert verdict(reading, 4, sign="positive") is BROKEN  # there are but three


def test_a_mean_of_heads_is_judged_as_one() -> None:
    reading = heads(3.0 + 0.1 * NOISE, -1.0 - 0.1 * NOISE)
    judgement = judged(reading, "mean", between=[0.999, 1.001])
    assert judgement.verdict is HELD  # the noise of one cancels that of the other, prompt by prompt
    (row,) = judgement.rows
    assert row.name == "mean of 2 heads"
    assert row.mean == pytest.approx(1.0)
    assert verdict(reading, "mean", baseline=reading, retains="100%") is HELD
    assert verdict(reading, "mean", baseline=heads(*[9.0 + NOISE] * 2), retains="80%") is BROKEN


def test_each_head_is_held_against_its_own_baseline() -> None:
    before = heads(1.0 + 0.1 * NOISE, 5.0 + 0.1 * NOISE)
    swapped = heads(5.0 + 0.1 * NOISE, 1.0 + 0.1 * NOISE)
    rows = {row.name: row for row in judged(swapped, baseline=before, retains="80%").rows}
    assert rows["L0H0"].verdict is HELD
    assert rows["L0H0"].amplified
    assert rows["L1H0"].verdict is BROKEN
    assert rows["L1H0"].baseline == pytest.approx(5.0)


def test_the_telling_row_comes_first() -> None:
    reading = of_means(0.2, 3.0, -2.0, 1.0)
    assert judged(reading, "each", sign="positive").rows[0].name == "L2H0"  # the worst, where each must hold
    assert judged(reading, 1, sign="positive").rows[0].name == "L1H0"  # the best, where any will do
    assert judged(reading, "each", at_most=0.0).rows[0].name == "L1H0"
    assert judged(reading, 1, sign="negative").rows[0].name == "L2H0"
