"""Units follow the answer metric of the task, and answers are read as a suite writes them."""

from __future__ import annotations

from typing import Any

import pytest
from auditing import Audited, given
from pydantic import ValidationError
from reference_model import word_tokenizer
from said import says
from tiny_models import save_tiny

from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES
from circuit_assertions.tasks import END, METRICS, Answers, GivenPromptsTask, Prompt, PromptSet, TaskError

WORDS = word_tokenizer()
PAIR: dict[str, Any] = {
    "clean": "Then, {a:Mary} and John went to the store. Mary gave a ring to",
    "counterfactual": "Then, Tom and Kate went to the store. Anna gave a ring to",
    "right": {"John": 1, "Tom": 0.5},
    "wrong": ["Mary", "Kate", "Anna"],
}


def task(*pairs: dict[str, Any], metric: str = "probability-difference") -> GivenPromptsTask:
    return GivenPromptsTask.model_validate({"kind": "prompts", "metric": metric, "pairs": pairs or [PAIR]})


def token(word: str) -> int:
    found = WORDS.convert_tokens_to_ids(word)
    assert isinstance(found, int)
    return found


def test_answers_may_be_a_word_a_list_or_words_with_weights() -> None:
    (prompt,) = task().build(WORDS).prompts
    assert prompt.right == Answers((token("John"), token("Tom")), (1.0, 0.5))
    assert prompt.wrong == Answers.of(token("Mary"), token("Kate"), token("Anna"))
    assert prompt.metric is METRICS["probability-difference"]
    assert prompt.alternatives == ((token("John"), token("Tom")),)
    one, listed = (task(PAIR | {"right": right}).build(WORDS).prompts[0].right for right in ("John", ["John"]))
    assert one == listed == Answers.of(token("John"))


def test_a_task_says_the_same_once_it_was_written_out() -> None:
    asked = task()
    assert type(asked).model_validate(asked.model_dump(by_alias=True)) == asked
    assert hash(asked) == hash(task())


@pytest.mark.parametrize(
    ("right", "problem"),
    [
        (3, r"\b3 is not .*\blist\b.*\bweights\b"),
        ([51, 52], r"\b51 is not .*\bquote\b"),
        ([], "an answer has 1 to 10000 words, and 0 are given"),
        ({"John": 0}, r"the weight of 'John' is 0: .*\b0\b.*\b1\b"),
        ({"John": 1.5}, "the weight of 'John' is 1.5"),
        ({"John": True}, "the weight of 'John' is True"),
        ({"John": float("nan")}, "the weight of 'John' is nan"),
    ],
)
def test_what_is_no_answer_is_refused_at_once(right: Any, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        task(PAIR | {"right": right})


def test_a_metric_must_be_known_and_a_word_come_once() -> None:
    with pytest.raises(ValidationError, match=r"unknown metric 'probabilty' \(did you mean 'probability-"):
        task(metric="probabilty")
    with pytest.raises(TaskError, match=r"prompt 1: 'John' and 'John' .*one token"):
        task(PAIR | {"right": ["John", "John"]}).build(WORDS)


def test_token_hashes_of_single_tokens_are_as_they_were_and_weights_count() -> None:
    prompt = Prompt((1, 2), "", {END: 1}, right=Answers.of(3), wrong=Answers.of(4), counterfactual=(1, 5))
    bare = Prompt((1, 2), "", {END: 1})
    # SHA-256 of "((1, 2), (1, 5), 3, 4)" and of "((1, 2), None, None, None)", as readings had them before.
    assert PromptSet((prompt,)).token_hash == "d0803e2176d804588a1a7f46e6bbd08d4479cf20408459f7f43a80f21f59755b"
    assert PromptSet((bare,)).token_hash == "3a4ae029a29dfea7d10488c53189416aff529c07f9f6b136f9de1d2ddfda09a0"
    hashes = {
        task(PAIR | {"right": right}).build(WORDS).token_hash for right in ("John", {"John": 0.5}, ["John", "Tom"])
    }
    assert len(hashes) == 3


def test_readings_are_in_the_unit_of_the_metric(tmp_path: Any) -> None:
    audited = Audited(save_tiny(tmp_path), "float64")
    asked = {metric: task(metric=metric) for metric in METRICS}
    for metric, unit in (("probability-difference", "probability"), ("logit-difference", "logits")):
        for measure in ("total-effect", "direct-effect", "path-effect"):
            assert audited.read(measure, asked[metric], Head(0, 0)).unit == unit
        assert audited.read("logit-difference", asked[metric]).unit == "logits"
        assert audited.read("probability-difference", asked[metric]).unit == "probability"
    for metric in METRICS:  # the same numbers, whatever the task's own metric
        values = [audited.read(metric, one).values for one in asked.values()]
        assert values[0].tolist() == values[1].tolist()
    readings = {name: audited.read(name, one).settings["task"] for name, one in asked.items()}
    assert readings["probability-difference"]["metric"] == "probability-difference"
    assert "metric" not in readings["logit-difference"]


def test_shares_are_those_of_the_metric() -> None:
    units = {name: spec.unit_on(task()) for name, spec in MEASURES.items()}
    assert units["faithfulness"].startswith("share ")
    assert says(units["faithfulness"], "probability difference")
    assert units["ablation-effect"] == "probability"
    assert units["attention"] == "share of attention"
    plain = given({key: str(value) for key, value in PAIR.items() if key != "right"} | {"wrong": "Mary"})
    assert {name: spec.unit_on(plain) for name, spec in MEASURES.items()} == {
        name: spec.unit for name, spec in MEASURES.items()
    }
