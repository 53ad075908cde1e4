"""`circuit-assertions hunt`: the simplest prompt on which an assertion fails, found again by the next run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import HEALTHY, ioi, repeated
from commands import Said
from hypothesis import given, settings
from hypothesis import strategies as st
from said import says
from suite_texts import write

from circuit_assertions.assertions.schema import Expectation
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_tokenizer
from circuit_assertions.heads import Head
from circuit_assertions.hunting.kept_prompts import simplest
from circuit_assertions.hunting.single_prompts import missed_by
from circuit_assertions.measures import Reading
from circuit_assertions.plugin.project_folders import RECORDS
from circuit_assertions.records.store import history
from circuit_assertions.tasks import ChosenPrompt, TaskError
from circuit_assertions.verdict_words import Outcome

SUITE = """\
suite: hunted
circuit: ioi
tasks:
  ioi: {kind: ioi, prompts: 32}
assertions:
  - {id: margin, measure: logit-difference, task: ioi, expect: {at-least: 4}}
  - {id: positive, measure: logit-difference, task: ioi, expect: {at-least: -30}}
  - {id: broken, measure: logit-difference, task: ioi, expect: {at-most: 1}}
  - {id: ranks, measure: direct-effect, heads: [L3H0], task: ioi, expect: {rank-within: 3}}
  - {id: joint, measure: faithfulness, heads: circuit, task: ioi, expect: {at-least: 0.1}}
  - {id: beside, measure: logit-difference, task: ioi, expect: {retains: 80%}}
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"suites/x.yaml": SUITE})
    monkeypatch.chdir(tmp_path)


def hunt(name: str, *arguments: object) -> Said:
    return Said.by("hunt", f"suites/x.yaml::{name}", "--model", HEALTHY, "--device", "cpu", *arguments)


def found_by(said: Said) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(said.out)
    return result


def test_a_failing_prompt_is_found_made_simple_and_kept_for_the_next_run() -> None:
    first = found_by(hunt("margin", "--json"))
    assert (first["average"]["outcome"], first["kept"]) == (Outcome.HELD, False)
    found = first["found"]
    assert found["missed"] > 0
    assert found["rows"][0]["value"] == pytest.approx(4 - found["missed"])
    assert found["chosen"]["distractor"] is None
    assert found["text"].split()[-1] == "to"
    again = hunt("margin", "--seed", "7", "--save=hunted")
    assert again.code == 1
    assert says(again.out, found["text"], ".hypothesis/examples")
    (entry,) = history(RECORDS)
    assert says(again.out, str(entry.file))
    (kept,) = entry.record.hunts
    assert kept.found is not None
    assert kept.found.text == found["text"]
    assert kept.found.missed == pytest.approx(found["missed"])
    assert [reading.prompts for reading in entry.record.readings] == [32]
    shown = Said.by("show", "hunted").out
    assert says(shown, found["text"], "margin", f"1 {Outcome.HELD.said}")
    assert found_by(hunt("margin", "--json"))["kept"]


@pytest.mark.complete
def test_the_same_seed_finds_the_same_prompt_where_nothing_is_kept(tmp_path: Path) -> None:
    runs = [found_by(hunt("margin", "--json", "--no-database", "--by", "0.5")) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0]["found"]["missed"] > 0.5
    assert not (tmp_path / ".hypothesis" / "examples").exists()


def test_an_assertion_that_no_prompt_fails_exits_with_0() -> None:
    said = hunt("positive", "--examples", "12")
    assert said.code == 0
    assert found_by(hunt("positive", "--examples", "12", "--json"))["found"] is None


def test_what_is_broken_on_average_is_not_searched() -> None:
    said = found_by(hunt("broken", "--json"))
    assert (said["average"]["outcome"], said["tried"], said["found"]) == (Outcome.BROKEN, 0, None)
    assert hunt("broken").code == 1


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("ranks", ["rank-within"]),
        ("joint", ["faithfulness"]),
        ("beside", ["baseline"]),
        ("margn", ["margin"]),
    ],
)
def test_what_cannot_be_hunted_is_one_sentence(name: str, named: list[str]) -> None:
    said = hunt(name)
    assert said.code == 2
    assert says(said.err, *named)
    assert len(said.err.strip().splitlines()) == 1


@pytest.mark.complete
def test_a_baselines_share_is_hunted_prompt_by_prompt() -> None:
    benign = HEALTHY.parent / "benign"
    said = Said.by("hunt", "suites/x.yaml::beside", "--model", benign, "--baseline", HEALTHY, "--json", "--no-database")
    (row,) = found_by(said)["found"]["rows"]
    assert row["value"] < 0.8 * row["baseline"]
    assert row["missed"] == pytest.approx(0.8 * row["baseline"] - row["value"])


# -- one prompt ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return open_tokenizer(find_checkpoints(str(HEALTHY))[0], Opening("cpu"))


@pytest.mark.parametrize("task", [ioi(prompts=8), repeated(prompts=8, length=6)], ids=lambda task: task.kind)
def test_the_simplest_choices_make_a_prompt_of_the_task(tokenizer: Any, task: Any) -> None:
    choices = task.choices(tokenizer)
    chosen = {
        name: tuple(choice.options[: choice.several]) if choice.several else choice.options[0]
        for name, choice in choices.items()
    }
    (prompt,) = ChosenPrompt.from_task(task, chosen).build(tokenizer).prompts
    (usual, *_) = task.build(tokenizer).prompts
    assert set(prompt.positions) == set(usual.positions)
    assert prompt.counterfactual is not None
    assert len(prompt.counterfactual) == len(prompt.tokens)
    assert ChosenPrompt.from_task(task, chosen) == ChosenPrompt.from_task(task, dict(reversed(chosen.items())))


@settings(max_examples=25)
@given(st.data())
def test_any_choice_is_a_prompt_or_a_task_error(tokenizer: Any, data: st.DataObject) -> None:
    task = ioi()
    chosen = {}
    for name, choice in task.choices(tokenizer).items():
        one = st.sampled_from(choice.options)
        several = st.lists(one, min_size=choice.several, max_size=choice.several, unique=True).map(tuple)
        chosen[name] = data.draw(several if choice.several else one, label=name)
    try:
        (prompt,) = task.one(tokenizer, chosen).prompts
    except TaskError:
        return
    right, wrong = chosen["people"][:2]
    assert right in prompt.text
    assert prompt.text.count(wrong) == 2
    assert prompt.template.startswith(chosen["order"])
    assert bool(prompt.before) == (chosen["distractor"] is not None)


def reading(values: list[list[float]]) -> Reading:
    heads = tuple(Head(0, index) for index in range(len(values[0])))
    return Reading("direct-effect", "logits", "value", np.array(values, dtype=float), heads)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=5), st.floats(-5, 5))
def test_a_prompt_misses_by_the_heads_that_must_meet_it(values: list[float], bound: float) -> None:
    expect = Expectation.model_validate({"at-least": bound})
    for needed, by in (
        ("each", bound - min(values)),
        ("mean", bound - float(np.mean(values))),
        (1, bound - max(values)),
    ):
        (missed,) = missed_by(reading([values]), expect, needed)
        assert missed.by == pytest.approx(by)
        assert [one.missed for one in missed.rows] == sorted((one.missed for one in missed.rows), reverse=True)


def test_of_mostly_a_prompt_must_meet_the_bound() -> None:
    expect = Expectation.model_validate({"at-least": 1.0, "mostly": "90%"})
    assert [one.by for one in missed_by(reading([[0.5], [2.0]]), expect, "each")] == [0.5, -1.0]


def test_keys_do_not_share_examples(tmp_path: Path) -> None:
    tried: list[int] = []

    def fails(number: int) -> bool:
        tried.append(number)
        return number > 50

    numbers = st.sampled_from(range(100))
    for key, first in ((b"a", None), (b"a", 51), (b"b", None)):
        tried.clear()
        assert simplest(numbers, fails, number=0, examples=100, database=tmp_path, key=key) == 51
        assert (tried[0] == 51) == (first == 51)
