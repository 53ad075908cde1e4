"""Minimality is what each head of a circuit is worth in it, and more than that of heads outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from auditing import Audited, ioi
from circuit_cases import EVERYONE, SET, Both, named, subsets
from reference_model import CAST, build_reference_model
from said import says
from suite_texts import circuit_text, write
from tiny_models import save_tiny

from circuit_assertions.assertions import SuiteError, Verdict, load_suite
from circuit_assertions.assertions.loading import load_circuits
from circuit_assertions.assertions.runner import NotApplicable, PlannedAssertion, SuiteRunner
from circuit_assertions.engine import MeasuringError
from circuit_assertions.heads import Head
from circuit_assertions.tasks.words import TEMPLATES

PAIR = (Head(1, 3), Head(2, 2))


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(save_tiny(tmp_path_factory.mktemp("model"), request.param))


@pytest.mark.parametrize("ablation", ["mean", "resample", "zero"])
def test_without_a_k_it_is_what_the_circuit_alone_loses_with_the_head(both: Both, ablation: str) -> None:
    reading = both.read("minimality", SET, ablation=ablation, search="none")
    assert reading.heads == SET
    expected = [both.slow.loss(SET, (), head, ablation) for head in SET]
    np.testing.assert_allclose(reading.values.mean(axis=0), expected, rtol=1e-9)


def test_where_the_search_sees_every_subset_it_finds_the_best(both: Both) -> None:
    reading = both.read("minimality", PAIR)
    for head in PAIR:
        best = max(both.slow.loss(PAIR, removed, head, "mean") for removed in subsets(set(PAIR) - {head}))
        assert reading.of_head(head).mean() == pytest.approx(best, rel=1e-9)


def test_each_head_is_read_at_the_k_that_is_named_for_it(both: Both) -> None:
    reading, without = both.read("minimality", SET), both.read("minimality", SET, search="none")
    for head in SET:
        removed = named(reading.settings["found"][f"K of {head}"])
        assert removed <= set(SET) - {head}
        value = reading.of_head(head).mean()
        assert value == pytest.approx(both.slow.loss(SET, removed, head, "mean"), rel=1e-9)
        assert value >= without.of_head(head).mean() - 1e-4


def test_a_search_that_is_not_made_leaves_all_prompts_to_be_read(both: Both) -> None:
    many = Both(both.folder, ioi(prompts=36, templates=[TEMPLATES[12]]))
    assert many.read("minimality", PAIR, search="none").prompts == 36
    assert many.read("minimality", PAIR).prompts == 18


def test_random_heads_are_those_of_the_layer_put_into_the_circuit(both: Both) -> None:
    reading = both.read("minimality-over-random", SET)
    controls = {head: both.slow.loss({*SET, head}, (), head, "mean") for head in set(EVERYONE) - set(SET)}
    for head in SET:
        others = [score for other, score in controls.items() if other.layer == head.layer]
        expected = both.slow.loss(SET, (), head, "mean") - np.mean(others)
        assert reading.of_head(head).mean() == pytest.approx(expected, rel=1e-9)
    assert reading.beside["heads outside, added"].mean() == pytest.approx(np.mean(list(controls.values())))


def test_a_layer_without_heads_outside_has_no_control(both: Both) -> None:
    with pytest.raises(MeasuringError, match=r"\blayer 1\b.*\bminimality\b"):
        both.read("minimality-over-random", (*EVERYONE[4:8], Head(2, 0)))


@pytest.mark.complete
def test_heads_at_work_are_needed_and_idle_ones_are_not(tmp_path: Path) -> None:
    reference = Audited(build_reference_model().save(tmp_path / "reference"))
    movers = [Head(*head) for head in CAST["name-mover"]]
    circuit = (*(Head(*head) for heads in CAST.values() for head in heads), Head(3, 1))
    task = ioi(prompts=16, templates=[TEMPLATES[0]])
    reading = reference.read("minimality", task, set=circuit, search="none")
    assert reading.only(movers) >= 0.01
    assert reading.only([Head(3, 1)]) <= 0.01


SHAPE = {"architecture": "GPT2LMHeadModel", "layers": 3, "heads": 4, "d_model": 32}
SUITE = """\
suite: x
circuit: ioi
tasks: {ioi: {kind: ioi, prompts: 48}}
assertions:
  - {id: a, measure: minimality, heads: circuit, search: none, task: ioi, expect: {%s}}
"""


def test_a_suite_asks_it_of_every_head_of_the_circuit(tmp_path: Path) -> None:
    files = {
        "suites/x.yaml": SUITE % "at-most: 100",
        "suites/circuits/tiny.yaml": circuit_text(SHAPE, {"name-mover": PAIR, "induction": SET[:1]}),
    }
    project, model = write(tmp_path / "project", files), Audited(save_tiny(tmp_path / "model"))
    circuits = load_circuits(project / "suites" / "circuits")
    suite = load_suite(project / "suites" / "x.yaml", circuits)
    runner = SuiteRunner(model.audit)
    judgement = runner.judge(PlannedAssertion(suite, suite.suite.assertions[0], model.checkpoint, circuits))
    assert not isinstance(judgement, NotApplicable)
    assert {row.name for row in judgement.rows} == {str(head) for head in (*PAIR, *SET[:1])}
    assert judgement.verdict in (Verdict.HELD, Verdict.UNRESOLVED)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (SUITE % "rank-within: 3", ["minimality", "rank"]),
        ((SUITE % "at-most: 100").replace("search: none", "search: gready"), ["'gready'", "'greedy'"]),
        ((SUITE % "at-most: 100").replace("search: none", "search: random"), ["'random'"]),
        ((SUITE % "at-most: 100").replace("search: none", "ranked-by: total-effect"), ["minimality", "`ranked-by`"]),
    ],
)
def test_what_cannot_be_asked_is_told(tmp_path: Path, line: str, named: list[str]) -> None:
    file = write(tmp_path, {"x.yaml": line}) / "x.yaml"
    with pytest.raises(SuiteError) as refused:
        load_suite(file)
    (said,) = str(refused.value).splitlines()
    assert says(said, *named)
