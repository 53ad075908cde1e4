"""Incompleteness is what enumeration on raw modules says, and its search finds what it claims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from auditing import Audited, ioi
from circuit_cases import EVERYONE, SET, Both, Slow, named, subsets
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_patching import exact_softmax
from reference_model import CAST, build_reference_model
from tiny_models import save_tiny

from circuit_assertions.engine import passes
from circuit_assertions.heads import Head
from circuit_assertions.measures import head_sets
from circuit_assertions.measures.figures import number
from circuit_assertions.measures.searching import Question, best_greedy, best_random
from circuit_assertions.measures.sweeping import HALVED, Sweep
from circuit_assertions.plugin.audit_fixture import comparison_lines
from circuit_assertions.report.explaining import context_rows, interval_text
from circuit_assertions.results import Reading
from circuit_assertions.tasks import Prompt, PromptSet
from circuit_assertions.tasks.words import TEMPLATES

PAIR = (Head(1, 3), Head(2, 2))
TWO = [TEMPLATES[0], TEMPLATES[12]]


family = pytest.mark.family(main="both", whole=("gpt2",))


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(save_tiny(tmp_path_factory.mktemp("model"), request.param))


@family
@pytest.mark.parametrize("ablation", ["mean", "resample", "zero"])
@pytest.mark.parametrize("circuit", [PAIR, SET[:1]])
def test_where_the_search_sees_every_subset_it_finds_the_worst(
    both: Both, ablation: str, circuit: Sequence[Head]
) -> None:
    reading = both.read("incompleteness", circuit, ablation=ablation)
    worst = max(both.slow.gap(circuit, removed, ablation) for removed in subsets(circuit))
    assert reading.mean == pytest.approx(worst, rel=1e-9)


@family
@pytest.mark.parametrize("search", ["greedy", "random"])
def test_what_is_read_is_the_gap_at_the_k_that_is_named(both: Both, search: str) -> None:
    reading = both.read("incompleteness", SET, search=search)
    removed = named(reading.settings["found"]["K"])
    assert removed <= set(SET)
    assert reading.mean == pytest.approx(both.slow.gap(SET, removed, "mean"), rel=1e-9)
    assert reading.mean <= max(both.slow.gap(SET, other, "mean") for other in subsets(SET)) * (1 + 1e-9)


@family
def test_greedy_search_grows_k_by_the_best_head_and_keeps_the_best_k(both: Both) -> None:
    growing: frozenset[Head] = frozenset()
    tried = {growing: both.slow.gap(SET, growing, "mean")}
    while growing != set(SET):
        larger = {growing | {head}: both.slow.gap(SET, growing | {head}, "mean") for head in set(SET) - growing}
        tried |= larger
        growing = max(larger, key=lambda removed: larger[removed])
    assert both.read("incompleteness", SET).mean == pytest.approx(max(tried.values()), rel=1e-9)


@family
def test_the_whole_model_is_complete(both: Both) -> None:
    np.testing.assert_allclose(both.read("incompleteness", EVERYONE).values, 0.0, rtol=0, atol=1e-9)


@family
def test_random_circuits_are_searched_and_scored_alike(both: Both) -> None:
    circuit = PAIR[:1]
    model = both.fast.audit.model(both.fast.checkpoint)
    scores = [
        max(both.slow.gap(other, removed, "zero") for removed in subsets(other))
        for other in (circuit, *head_sets.random_sets(model, circuit))
    ]
    reading = both.read("incompleteness-over-random", circuit, ablation="zero", search="greedy")
    assert reading.mean == pytest.approx(scores[0] - np.mean(scores[1:]), rel=1e-9)
    assert {name: values.mean() for name, values in reading.beside.items()} == {
        "this circuit": pytest.approx(scores[0]),
        "random circuits": pytest.approx(np.mean(scores[1:])),
    }


@family
def test_k_is_searched_on_one_half_of_the_prompts_and_read_on_the_other(both: Both) -> None:
    task = ioi(prompts=40, templates=["Then, {first} and {second} had a lot of fun. {subject} said to"])
    many = Both(both.folder, task)
    searched, to_read = many.prompts.halves()
    half = Slow(both.folder, [many.prompts.prompts[row] for row in searched])
    removed = max(subsets(PAIR), key=lambda other: half.gap(PAIR, other, "mean"))
    reading = many.read("incompleteness", PAIR)
    assert named(reading.settings["found"]["K"]) == removed
    assert list(reading.texts) == [many.prompts.prompts[row].text for row in to_read]
    whole = many.slow.whole[list(to_read)].mean()
    rest = set(PAIR) - removed
    left = (many.slow.alone(rest, "mean") - many.slow.without(removed, "mean"))[list(to_read)].mean()
    assert reading.mean == pytest.approx(abs(left / whole), rel=1e-9)


@family
def test_the_batch_size_changes_nothing(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    task = ioi(prompts=40, templates=TWO)
    with exact_softmax():
        together = Audited(both.folder, "float64").read("incompleteness", task, set=SET)
        monkeypatch.setattr(passes, "_batch_size", lambda *_: 1)
        monkeypatch.setattr("circuit_assertions.engine.pass_cache.budget", lambda device: 0)
        alone = Audited(both.folder, "float64").read("incompleteness", task, set=SET)
    assert alone.settings["found"] == together.settings["found"]
    np.testing.assert_allclose(alone.values, together.values, rtol=0, atol=1e-9 * np.abs(together.values).max())


@pytest.mark.complete
def test_a_circuit_without_one_of_its_name_movers_is_less_complete(tmp_path: Path) -> None:
    reference = Audited(build_reference_model().save(tmp_path / "reference"))
    circuit = [Head(*head) for heads in CAST.values() for head in heads]
    lacking = [head for head in circuit if head != Head(4, 1)]
    task = ioi(prompts=12, templates=TWO[:1])
    true, false = (
        reference.read("incompleteness", task, set=tuple(heads), search="random") for heads in (circuit, lacking)
    )
    assert true <= 0.05
    assert false >= 0.1


@pytest.mark.parametrize("count", [HALVED - 1, HALVED])
def test_few_prompts_are_searched_and_read_alike(count: int) -> None:
    prompts = PromptSet(tuple(Prompt((1, 2), "", {"end": 1}, template="a") for _ in range(count)))
    sweep = Sweep.of(None, prompts, lambda done, total: None)  # type: ignore[arg-type]
    few = count < HALVED
    assert len(sweep.to_read) == (count if few else count // 2)
    assert (len(sweep.prompts) == count) is few


HEADS = EVERYONE[:6]


def table_of(seed: int) -> dict[frozenset[Head], float]:
    rng = np.random.default_rng(seed)
    return {removed: float(rng.normal()) for removed in subsets(HEADS)}


@given(seed=st.integers(0, 10_000), size=st.integers(0, 6), uphill=st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_search_exceeds_enumeration_or_misses_the_empty_k(seed: int, size: int, uphill: bool) -> None:
    table = table_of(seed)
    question = Question(frozenset(HEADS[size:]), frozenset(), frozenset(HEADS[:size]))

    def means(sets: Sequence[frozenset[Head]]) -> list[float]:
        return [table[ablated] for ablated in sets]

    def score(removed: frozenset[Head]) -> float:
        first, second = means(question.ablated(removed))
        return abs(first - second)

    scores = [score(removed) for removed in subsets(HEADS[:size])]
    (found,) = best_greedy([question], means, uphill=uphill)
    assert scores[0] - 1e-4 <= score(found) <= max(scores)
    if size <= 1:
        assert score(found) >= max(scores) - 1e-4
    (drawn,) = best_random([question], means)
    assert drawn <= set(HEADS[:size])


@family
def test_a_failure_names_k_and_shows_what_random_circuits_do(both: Both) -> None:
    reading = both.read("incompleteness-over-random", SET)
    result = Reading.of(reading)
    found, own, random = context_rows(result)
    assert found == ("search", f"K: {reading.settings['found']['K']}")
    assert own[0] == "control"
    assert own[1].startswith("this circuit ")
    mean, control = float(reading.beside["random circuits"].mean()), result.controls["random circuits"]
    assert random == ("control", f"random circuits {number(mean)} {interval_text(control)}")
    assert [line.split(maxsplit=1) for line in comparison_lines("<=", reading, -100)][-3:] == [
        list(row) for row in (found, own, random)
    ]
