"""What `discover` says where its prompts do not tell whether a model does the task, and how it draws more of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml
from auditing import given, ioi, repeated
from diagnosis_cases import kept, on_the_way_to
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from said import says

from circuit_assertions.assertions.chains import chain_for
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.cli import main
from circuit_assertions.diagnosis.discovery.behaviour import check_behaviour, with_enough_prompts
from circuit_assertions.diagnosis.errors import NoCircuitError, UndecidedError
from circuit_assertions.diagnosis.view import View
from circuit_assertions.measures import Reading
from circuit_assertions.measures.intervals import Level, interval_of_share
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.request import Request
from circuit_assertions.tasks import Prompt, PromptSet, Task

KINDS = ("ABBA/0", "BABA/0", "ABBA/1", "BABA/1")
IOI = chain_for(ioi(), "ioi")


@dataclass
class Answers:
    """An audit of a model that answers right at these rates, by kind of prompt; no two seeds ask the same prompts."""

    rates: Mapping[str, float]
    margin: float = 5.0
    templates: Sequence[str] = KINDS
    policy: Policy = DEFAULT

    def plan(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> None:
        """Nothing has to be announced."""

    def prompts(self, task: Task, checkpoint: Checkpoint) -> PromptSet:
        count = getattr(task, "prompts", 32)
        templates = [self.templates[index % len(self.templates)] for index in range(count)]
        return PromptSet(tuple(Prompt((index,), "", {}, template=one) for index, one in enumerate(templates)))

    def read(self, request: Request, checkpoint: Checkpoint) -> Reading:
        prompts = self.prompts(request.task, checkpoint).prompts
        rng = np.random.default_rng(getattr(request.task, "seed", 0))
        luck = rng.random(len(prompts))  # the first prompts are the same, however many follow
        rate = np.array(
            [self.rates.get(prompt.template.partition("/")[0], self.rates.get("", 0.5)) for prompt in prompts]
        )
        hits = (luck < rate).astype(np.float64)
        if request.measure == "answer-rate":
            return Reading("answer-rate", "share", "share", hits)
        return Reading("logit-difference", "logits", "mean", self.margin * (2 * hits - 1))

    def view(self, prompts: int, seed: int = 0) -> View:
        return View(cast(Audit, self), Checkpoint("model"), ioi(prompts=prompts, seed=seed))


def said_of(view: View) -> str:
    """The message where the model does not do the task, or that is open; else yes."""
    try:
        check_behaviour(view, IOI)
    except NoCircuitError as error:
        return str(error)
    return "yes"


@drawn(st.floats(0.3, 1.0), st.sampled_from([16, 40, 256]), st.integers(0, 50))
@settings(deadline=None)
def test_no_is_said_only_where_the_whole_interval_lies_below_the_bound(rate: float, prompts: int, seed: int) -> None:
    view = Answers({"": rate}).view(prompts, seed)
    interval = interval_of_share(view.reading("answer-rate").values, Level.of_figures().among(2))
    said = said_of(view)
    if interval.low >= DEFAULT.least_rate:
        assert said == "yes"
    elif interval.high < DEFAULT.least_rate:
        assert says(said, "not", "the task")
    else:
        assert re.match(rf"undecided: \d+% \[\d+%, \d+%\] .*\b{prompts} prompts\b.*\b75%", said)


@drawn(st.floats(0.6, 0.95), st.sampled_from([16, 64, 256]), st.integers(0, 50))
@settings(deadline=None)
@pytest.mark.complete
def test_prompts_are_doubled_until_they_tell_or_are_four_times_as_many(rate: float, asked: int, seed: int) -> None:
    answers = Answers({"": rate})
    sizes = [asked, 2 * asked, 4 * asked]
    said = [said_of(answers.view(size, seed)) for size in sizes]
    last = next((place for place, one in enumerate(said) if not one.startswith("undecided")), 2)
    told: list[str] = []
    if said[last] != "yes":
        with pytest.raises(NoCircuitError, match=f"^{re.escape(said[last])}$"):
            with_enough_prompts(answers.view(asked, seed), IOI, told.append)
    else:
        view, doing = with_enough_prompts(answers.view(asked, seed), IOI, told.append)
        assert (view.task, doing.prompts) == (ioi(prompts=sizes[last], seed=seed), sizes[last])
    assert len(told) == last


def test_a_seed_does_not_turn_yes_into_no() -> None:
    """Close to the bound seeds differ in luck: some tell, some do not, and none says no of what another says yes of."""
    said = {said_of(Answers({"": 0.82}).view(256, seed)).partition(":")[0] for seed in range(60)}
    assert said == {"yes", "undecided"}


def test_a_task_of_given_prompts_has_no_more_of_them() -> None:
    pairs = [{"clean": f"a {word}", "counterfactual": "b c", "right": "d", "wrong": "e"} for word in "xyz"]
    view = View(cast(Audit, Answers({"": 0.8})), Checkpoint("model"), given(*pairs))
    with pytest.raises(UndecidedError, match=r"^undecided: .*\b32 prompts\b.*\b75%"):
        with_enough_prompts(view, IOI, lambda stage: None)


def test_a_margin_that_is_not_clear_of_zero_is_undecided_too() -> None:
    class Level(Answers):
        def read(self, request: Request, checkpoint: Checkpoint) -> Reading:
            read = super().read(request, checkpoint)
            noise = np.resize([-3.0, 3.0, 3.5], len(read.values))
            return read if request.measure == "answer-rate" else Reading("logit-difference", "logits", "mean", noise)

    with pytest.raises(UndecidedError, match=r"^undecided: .*logit difference.*\d\.\d\d \[-"):
        check_behaviour(Level({"": 1.0}).view(16), IOI)


RATES: list[tuple[dict[str, float], Sequence[str], list[str]]] = [
    ({"ABBA": 0.33, "BABA": 1.0}, KINDS, ["ABBA", "BABA"]),
    ({"ABBA": 1.0, "BABA": 0.6}, KINDS, ["ABBA", "BABA"]),
    ({"ABBA": 0.9, "BABA": 0.9}, KINDS, []),
    ({"length 4": 1.0, "length 9": 0.5}, ("length 4", "length 9"), ["length 4", "length 9"]),
    ({"ABBA": 0.8}, ("ABBA/0", "ABBA/1"), []),
    ({"a": 1.0, "b": 1.0, "c": 0.2}, ("a/0", "b/0", "c/0"), ["a", "b", "c"]),
]


@pytest.mark.parametrize(("rates", "templates", "told"), RATES)
def test_kinds_of_prompts_are_told_apart_where_they_clearly_differ(
    rates: dict[str, float], templates: Sequence[str], told: list[str]
) -> None:
    answers = Answers(rates, templates=templates)
    view = answers.view(256)
    hits = view.reading("answer-rate").values
    try:
        kinds = check_behaviour(view, IOI).kinds
        shown = {kind: round(100 * rate.mean) for kind, rate in kinds.items()}
    except NoCircuitError as error:
        listed = str(error).rpartition(": ")[2]
        shown = {kind.strip(): int(rate) for kind, rate in re.findall(r"([\w ]+) (\d+)% \[\d+%, \d+%\]", listed)}
    assert list(shown) == told
    for kind, percent in shown.items():
        rows = [index for index in range(256) if templates[index % len(templates)].partition("/")[0] == kind]
        assert percent == round(100 * hits[rows].mean())


# -- the command ----------------------------------------------------------------------------------------------------


def discover(model: Path, *more: str) -> int:
    return main(["discover", "--model", str(model), "--device", "cpu", *more])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_undecided_has_words_of_its_own_and_exit_code_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = kept(on_the_way_to("poisoned", 0.59), tmp_path / "between")
    assert discover(model, "--prompts", "16") == 1
    said = capsys.readouterr().out
    assert re.match(r"undecided: \d\d% \[\d\d%, \d\d%\] .*\b64 prompts\b.*\b75%", said)
    assert "no circuit" not in said
    assert not (tmp_path / "suites").exists()
    assert discover(model, "--prompts", "16", "--json") == 1
    plain = json.loads(capsys.readouterr().out)
    assert (plain["circuit"], plain["undecided"]) == (None, True)


@pytest.mark.complete
def test_with_as_many_more_prompts_as_it_takes_it_is_the_same_file_as_if_these_had_been_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = kept(on_the_way_to("poisoned", 0.55), tmp_path / "nearly")
    assert discover(model, "--prompts", "16", "-o", "first.yaml") == 0
    printed = capsys.readouterr().out
    content: dict[str, Any] = yaml.safe_load((tmp_path / "first.yaml").read_text())
    used = content["found"]["task"]["prompts"]
    assert used in (32, 64)
    assert re.search(rf"^task +ioi, {used} prompts \(undecided .*\b16\)", printed, re.MULTILINE)
    assert discover(model, "--prompts", str(used), "-o", "second.yaml") == 0
    assert (tmp_path / "first.yaml").read_bytes() == (tmp_path / "second.yaml").read_bytes()


def test_repeated_tokens_have_one_kind() -> None:
    view = View(cast(Audit, Answers({"": 1.0}, templates=("length 24",))), Checkpoint("model"), repeated(prompts=64))
    assert check_behaviour(view, chain_for(repeated(), "induction")).kinds == {}
