"""Prompts that grow until an assertion is decided, and the one error rate of a suite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import ioi, repeated
from pydantic import ValidationError
from said import says
from suite_texts import write

from circuit_assertions.assertions import Expectation, Verdict, judge
from circuit_assertions.assertions.deciding import Readings, disagreeing, prompts_to_decide, strata_of
from circuit_assertions.measures import Reading
from circuit_assertions.measures.intervals import ALONE
from circuit_assertions.report.explaining import percent_text
from circuit_assertions.results import AuditResult
from circuit_assertions.tasks import SeededTask
from circuit_assertions.tasks.growing import PromptsThatGrow

pytestmark = pytest.mark.usefixtures("opened_once")

# The tiny model's loss: far above one bound, and so near to the other that no prompts decide it.
SUITE = """\
suite: grows
tasks:
  again: {kind: repeated-tokens, prompts: {start: 64, budget: 150}, length: 8}
assertions:
  - {id: clear, measure: loss, task: again, expect: {at-least: 0.5}}
  - {id: near, measure: loss, task: again, expect: {at-least: NEAR}}
"""


def run(pytester: pytest.Pytester, folder: Path, *args: str) -> tuple[pytest.RunResult, AuditResult]:
    file = pytester.path / "audit.json"
    result = pytester.runpytest_inprocess(
        "-p", "no:hypothesispytest", "-p", "no:cacheprovider", f"--model={folder}", f"--circuit-json={file}", *args
    )
    return result, AuditResult.model_validate(json.loads(file.read_text()))


@pytest.fixture
def project(pytester: pytest.Pytester, tiny_folder: Path) -> Path:
    from auditing import Audited

    mean = Audited(tiny_folder).read("loss", repeated(prompts=150, length=8)).mean
    return write(pytester.path, {"suites/grows.yaml": SUITE.replace("NEAR", f"{mean:.6f}")})


# -- a task -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "budget", "counts"), [(64, 512, (64, 128, 256, 512)), (64, 100, (64, 100)), (10, 80, (10, 20, 40, 80))]
)
def test_each_look_has_twice_the_prompts_until_the_budget_is_spent(
    start: int, budget: int, counts: tuple[int, ...]
) -> None:
    task = ioi(prompts={"start": start, "budget": budget})
    assert tuple(look.count for look in task.looks) == counts
    assert (task.count, task.budget) == (start, budget)
    assert task.looks == tuple(ioi(prompts=count) for count in counts)
    assert len({*task.looks, *(ioi(prompts=count) for count in counts)}) == len(counts)


@pytest.mark.parametrize(("least", "count"), [(2, 64), (64, 64), (65, 128), (200, 200), (1000, 200)])
def test_a_circuit_is_found_on_the_first_look_with_enough_prompts(least: int, count: int) -> None:
    assert ioi(prompts={"start": 64, "budget": 200}).look_with(least) == ioi(prompts=count)
    assert ioi(prompts=32).look_with(least) == ioi(prompts=32)


def test_a_plain_number_is_one_look_and_a_changed_number_ends_the_growth() -> None:
    assert ioi(prompts=32).looks == (ioi(prompts=32),)
    growing = repeated(prompts={"start": 16, "budget": 64})
    assert growing.with_count(16).looks == (repeated(prompts=16),)
    other = growing.with_seed(3)
    assert [(look.prompts, look.seed) for look in other.looks if isinstance(look, SeededTask)] == [
        (16, 3),
        (32, 3),
        (64, 3),
    ]


@pytest.mark.parametrize(
    ("prompts", "where", "words"),
    [
        ({"start": 64, "budget": 64}, ("prompts",), ("64", "more")),
        ({"start": 64}, ("prompts", "budget"), ()),
        ({"start": 1, "budget": 64}, ("prompts", "start"), ()),
        ({"start": 64, "budget": 1_000_000}, ("prompts",), ("100000",)),
    ],
)
def test_what_cannot_grow_is_refused_at_its_place(
    prompts: dict[str, int], where: tuple[str, ...], words: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        ioi(prompts=prompts)
    (found,) = caught.value.errors()
    assert found["loc"] == where
    assert not words or says(found["msg"], *words)


def test_a_misspelt_key_is_told_with_file_and_line(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    write(pytester.path, {"suites/grows.yaml": SUITE.replace("budget", "budgets").replace("NEAR", "1")})
    result = pytester.runpytest_inprocess("-p", "no:hypothesispytest", f"--model={tiny_folder}")
    told = result.stdout.str()
    assert result.ret == 2
    assert says(told, "grows.yaml:3", "budgets", "budget")


# -- a run ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.complete)], ids=["alone", "workers"]
)
def test_a_clear_case_takes_the_start_and_a_near_one_the_budget(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path, workers: tuple[str, ...]
) -> None:
    result, audit = run(pytester, tiny_folder, *workers)
    clear, near = audit.assertions
    assert clear.reading is not None
    assert near.reading is not None
    assert (clear.outcome, clear.reading.prompts, clear.budget) == ("HELD", 64, 150)
    assert (near.outcome, near.reading.prompts, near.budget) == ("UNRESOLVED", 150, 150)
    assert near.enough is None
    assert says(result.stdout.str(), "64/150 prompts", "150/150 prompts")


def test_an_assertion_alone_has_the_interval_that_it_has_among_all(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path
) -> None:
    _, whole = run(pytester, tiny_folder)
    _, one = run(pytester, tiny_folder, "-k", "clear")
    _, reproduced = run(pytester, tiny_folder, "suites/grows.yaml::near")
    assert one.assertions[0] == whole.assertions[0]
    assert reproduced.assertions[0].rows == whole.assertions[1].rows
    assert whole.assertions[0].level == pytest.approx(1 - 0.01 / (2 * 3))  # assertions, looks


@pytest.mark.parametrize("way", ["option", "percent", "file"])
def test_the_confidence_of_a_run_can_be_chosen(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path, way: str
) -> None:
    said = {"option": ["--circuit-confidence=0.9999"], "percent": ["--circuit-confidence=99.99%"], "file": []}[way]
    if way == "file":
        pytester.makeini("[pytest]\ncircuit_confidence = 99.99%")
    _, usual = run(pytester, tiny_folder, "-k", "clear", "--circuit-confidence=0.99")
    result, surer = run(pytester, tiny_folder, "-k", "clear", *said)
    (narrow,), (wide,) = usual.assertions[0].rows, surer.assertions[0].rows
    assert surer.assertions[0].confidence == pytest.approx(0.9999)
    assert wide.figure.low < narrow.figure.low < narrow.figure.high < wide.figure.high
    assert "99.99 %" in result.stdout.str()
    if way == "option":
        assert "--circuit-confidence" in surer.assertions[0].command


@pytest.mark.parametrize("said", ["99", "1", "100%", "0", "sure", "-1%", "nan"])
def test_a_confidence_that_is_none_is_a_mistake_in_the_command(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path, said: str
) -> None:
    result = pytester.runpytest_inprocess(
        "-p", "no:hypothesispytest", f"--model={tiny_folder}", f"--circuit-confidence={said}"
    )
    assert result.ret == 4
    assert says(result.stderr.str(), "--circuit-confidence", said)


@pytest.mark.parametrize(
    ("confidence", "text"),
    [(0.99, "99 %"), (0.9, "90 %"), (0.99979, "99.979 %"), (0.999999, "99.9999 %"), (0.5, "50 %")],
)
def test_levels_are_told_to_two_digits_of_what_is_missing(confidence: float, text: str) -> None:
    assert percent_text(confidence) == text


# -- what would decide it, and templates ------------------------------------------------------------------------------


def read(values: Any, templates: list[str] | None = None, **expected: Any) -> Readings:
    expect = Expectation.model_validate({name.replace("_", "-"): value for name, value in expected.items()})
    reading = Reading("logit-difference", "logits", "value", np.asarray(values, float), templates=templates or [])
    return Readings(reading, expect, "each")


@pytest.mark.parametrize(
    "expected", [{"at_least": 0.9}, {"sign": "positive", "mostly": "75%"}, {"between": [0.9, 2.0]}]
)
def test_so_many_prompts_do_decide(expected: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    few = read(rng.normal(1.0, 1.0, 64), **expected)
    undecided = judge(few.reading, few.expect, "each")
    assert undecided is not None
    assert undecided.verdict is Verdict.UNRESOLVED
    enough = prompts_to_decide(few)
    assert enough is not None
    assert 64 < enough <= 32 * 64
    more = read(np.resize(few.reading.values, enough), **expected)
    decided = judge(more.reading, more.expect, "each")
    assert decided is not None
    assert decided.verdict is not Verdict.UNRESOLVED


def test_no_number_is_promised_where_the_reading_lies_at_the_bound() -> None:
    values = np.random.default_rng(1).normal(1.0, 1.0, 64)
    assert prompts_to_decide(read(values, at_least=float(values.mean()))) is None


def test_templates_that_disagree_are_told_and_others_are_not() -> None:
    rng, templates = np.random.default_rng(2), ["ABBA/1", "BABA/1"] * 64
    apart = np.where(np.arange(128) % 2 == 0, 3.0, -1.0) + rng.normal(0.0, 0.2, 128)
    told = disagreeing(read(apart, templates, sign="positive"))
    assert {name: judgement.verdict for name, judgement in told.items()} == {
        "ABBA/1": Verdict.HELD,
        "BABA/1": Verdict.BROKEN,
    }
    assert told["ABBA/1"].reading.prompts == 64
    assert disagreeing(read(2.0 + rng.normal(0.0, 0.2, 128), templates, sign="positive")) == {}
    assert disagreeing(read(apart, sign="positive")) == {}


def test_strata_are_templates_or_kinds_of_templates_with_enough_prompts() -> None:
    templates = [f"{kind}/{number}" for number in range(8) for kind in ("ABBA", "BABA")] * 4
    assert list(strata_of(templates, 4)) == sorted(set(templates))
    assert {name: len(rows) for name, rows in strata_of(templates, 20).items()} == {"ABBA": 32, "BABA": 32}
    assert strata_of(templates, 33) == {}
    assert strata_of(["one"] * 64, 4) == {}


@pytest.mark.complete
def test_noise_is_decided_wrongly_at_no_look_more_often_than_once_in_a_hundred() -> None:
    """Of readings whose mean is the bound, judged after each look until they are decided."""
    rng, counts = np.random.default_rng(5), PromptsThatGrow(start=32, budget=256).counts
    expect, level, wrong = Expectation.model_validate({"sign": "positive"}), ALONE.among(4), 0
    for values in rng.normal(0.0, 1.0, (1500, 256)):
        looks = (Reading("logit-difference", "logits", "value", values[:count]) for count in counts)
        judged = (judge(reading, expect, "each", level=level) for reading in looks)
        wrong += any(one is not None and one.verdict is not Verdict.UNRESOLVED for one in judged)
    assert wrong <= 1500 * 0.01 + 8
