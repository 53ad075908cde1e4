"""Knock-outs are exact, joint, and by template: equal to hooks on Hugging Face's own modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from auditing import Audited
from circuit_cases import EVERYONE, SET, TASK, Both
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_patching import exact_softmax
from tiny_models import save_tiny

from circuit_assertions.engine import MeasuringError, run_passes
from circuit_assertions.engine.patching import Patching
from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading
from circuit_assertions.measures.head_sets import RANDOM_SETS, random_sets
from circuit_assertions.measures.intervals import Level
from circuit_assertions.measures.replacing import whole_and_without
from circuit_assertions.measures.shares import shares_of
from circuit_assertions.measures.sweeping import KNOCKOUT
from circuit_assertions.request import Request
from circuit_assertions.tasks import Prompt, PromptSet

family = pytest.mark.family(main="both", whole=("gpt2",))


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma2", "gpt-neox"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(save_tiny(tmp_path_factory.mktemp("model"), request.param))


@family
@pytest.mark.parametrize("ablation", ["mean", "resample", "zero"])
def test_a_set_is_ablated_together(both: Both, ablation: str) -> None:
    expected = both.slow.whole - both.slow.without(SET, ablation)
    got = both.read("ablation-effect", SET, ablation=ablation).values
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@family
@pytest.mark.parametrize("ablation", ["mean", "resample", "zero"])
def test_sets_that_share_heads_are_ablated_as_if_alone(both: Both, ablation: str) -> None:
    """Runs are shared up to where two sets part, whatever their order: in a layer, before it, behind it, nowhere."""
    sets = [SET, (), SET[:2], SET[2:], (*SET, Head(0, 2)), (*SET, Head(2, 0)), SET, SET[:1], EVERYONE, (Head(2, 3),)]
    with exact_softmax():
        (taken,) = run_passes(both.fast.audit.model(both.fast.checkpoint), both.prompts, KNOCKOUT)
        columns = whole_and_without(taken, [frozenset(heads) for heads in sets], ablation).T.numpy()
    expected = [both.slow.whole, *(both.slow.without(heads, ablation) for heads in sets)]
    ordered = np.array(expected)[:, list(taken.indices)]
    np.testing.assert_allclose(columns, ordered, rtol=0, atol=1e-10 * np.abs(ordered).max())


@family
def test_no_set_is_ablated_twice_in_a_pass(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Audited(both.folder, "float64")
    ablated: list[frozenset[Head]] = []
    measures = ("faithfulness", "faithfulness-over-random", "ablation-effect")
    requests = [Request(measure, TASK, (("set", SET),)) for measure in measures]
    original = Patching.ablated

    def counted(patching: Patching, sets: Any, replacement: Any) -> Any:
        ablated.extend(frozenset(heads) for heads in sets)
        return original(patching, sets, replacement)

    monkeypatch.setattr(Patching, "ablated", counted)
    fresh.plan(*requests)
    with exact_softmax():
        for request in requests:
            fresh.audit.read(request, fresh.checkpoint)
    assert len(ablated) == len(set(ablated)) > RANDOM_SETS


@family
@pytest.mark.parametrize("ablation", ["mean", "resample", "zero"])
def test_faithfulness_is_what_the_set_alone_does_over_what_all_do(both: Both, ablation: str) -> None:
    reading = both.read("faithfulness", SET, ablation=ablation)
    alone = both.slow.alone(SET, ablation)
    assert reading.mean == pytest.approx(float(alone.mean() / both.slow.whole.mean()), rel=1e-9)


@family
def test_random_circuits_have_as_many_heads_in_each_layer(both: Both) -> None:
    model = both.fast.audit.model(both.fast.checkpoint)
    sets = random_sets(model, SET)
    assert sets == random_sets(model, SET[::-1])
    for heads in sets:
        assert sorted(head.layer for head in heads) == sorted(head.layer for head in SET)
    reading = both.read("faithfulness-over-random", SET)
    alone = [both.slow.alone(heads, "mean").mean() / both.slow.whole.mean() for heads in (SET, *sets)]
    assert reading.mean == pytest.approx(alone[0] - np.mean(alone[1:]), rel=1e-9)
    assert reading.beside["random circuits"].mean() == pytest.approx(np.mean(alone[1:]), rel=1e-9)


@family
def test_where_few_circuits_are_like_it_each_is_taken_once(both: Both) -> None:
    model = both.fast.audit.model(both.fast.checkpoint)
    heads = model.layout.heads
    few = random_sets(model, [Head(1, 0)])
    assert set(few) == {frozenset({Head(1, index)}) for index in range(heads)}
    assert len(few) == heads < RANDOM_SETS
    everyone = frozenset(Head(0, index) for index in range(heads))
    assert set(random_sets(model, [*everyone, Head(1, 0)])) == {everyone | one for one in few}
    many = random_sets(model, [Head(layer, 0) for layer in range(model.layout.layers)])
    assert len(many) == RANDOM_SETS < heads**model.layout.layers


@family
def test_all_heads_are_wholly_faithful_and_their_absence_costs_nothing(both: Both) -> None:
    np.testing.assert_allclose(both.read("faithfulness", EVERYONE).values, 1.0, rtol=0, atol=1e-9)
    assert both.read("faithfulness-over-random", EVERYONE, ablation="zero").mean == pytest.approx(0.0, abs=1e-9)


@family
def test_order_within_the_set_does_not_matter(both: Both) -> None:
    one, other = (both.read("ablation-effect", heads).values for heads in (SET, SET[::-1]))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


@family
def test_heads_that_are_not_there_are_refused(both: Both) -> None:
    with pytest.raises(MeasuringError, match=r"\bL7H0\b"):
        both.read("ablation-effect", [Head(7, 0)], ablation="zero")


@family
def test_an_unknown_ablation_is_refused_with_the_one_meant(both: Both) -> None:
    with pytest.raises(MeasuringError, match=r"'resampled'.*'resample'"):
        both.read("ablation-effect", SET, ablation="resampled")


COLUMNS = st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed).normal(3.0, 1.0, (40, 12)))


@given(columns=COLUMNS)
@settings(max_examples=25, deadline=None)
def test_a_ratio_of_means_keeps_its_mean(columns: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    means = columns.mean(axis=0)
    np.testing.assert_allclose(shares_of(columns[:, 0], columns[:, 1:]).mean(axis=0), means[1:] / means[0])


def test_nothing_is_a_share_of_nothing() -> None:
    with pytest.raises(MeasuringError, match=r"answer metric .*\bzero\b.*\bshare\b"):
        shares_of(np.array([1.0, -1.0]), np.ones((2, 1)))


def test_the_interval_of_a_ratio_covers_it() -> None:
    """Linearised values stand for the ratio: over 300 samples the interval misses it about one time in 20."""
    rng, hits = np.random.default_rng(3), 0
    for _ in range(300):
        whole = rng.normal(4.0, 2.0, 64)
        part = 0.6 * whole + rng.normal(0.0, 1.0, 64)
        reading = Reading("faithfulness", "share", "value", shares_of(whole, part[:, None])[:, 0])
        interval = reading.interval(reading.values, Level(0.95))
        hits += interval.low <= 0.6 <= interval.high
    assert 0.91 <= hits / 300 <= 0.98


@given(templates=st.lists(st.sampled_from("abcde"), min_size=1, max_size=30), most=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_templates_are_never_parted(templates: list[str], most: int) -> None:
    prompts = PromptSet(tuple(Prompt((1, 2), "", {"end": 1}, template=name) for name in templates))
    batches = list(prompts.batches(most, whole_templates=True))
    assert sorted(index for indices, _ in batches for index in indices) == list(range(len(templates)))
    homes = [{prompt.template for prompt in batch} for _, batch in batches]
    assert sum(len(home) for home in homes) == len(set(templates))


@family
def test_the_slow_side_leaves_no_hook_behind(both: Both) -> None:
    both.slow.without(SET, "zero")
    with exact_softmax():
        assert torch.equal(both.slow.patching.keep(both.slow.patching.tokens).logits, both.slow.patching.clean.logits)


def test_the_folder_is_left_alone(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    Audited(folder, "float64").read("ablation-effect", TASK, set=SET)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
