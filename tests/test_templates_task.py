"""The `templates` task: every counterfactual differs in one thing, cases are balanced, and mistakes are told."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from said import says
from suite_tokenizer import packaged_tasks, suite_tokenizer

from circuit_assertions.tasks import END, METRICS, Prompt, TaskError
from circuit_assertions.tasks.slots import Slot, pieces_of
from circuit_assertions.tasks.templates import TemplatesTask

TOKENIZER = suite_tokenizer()
PACKAGED = packaged_tasks()
TWO = 2  # cases, of which each has half of the prompts
CASES = [
    {"fill": {"thing": ["dog", "boy"]}, "right": "is"},
    {"fill": {"thing": ["dogs", "boys"]}, "right": ["are", "were"]},
]
TEXTS: dict[str, Any] = {
    "templates": [
        "The {subject:thing} near the {attractor}",
        "He said that the {subject:thing} close to the {attractor}",
    ],
    "words": {"attractor": ["house", "wall"]},
    "changed": "subject",
    "cases": CASES,
}


def task(**changes: Any) -> TemplatesTask:
    of_texts = {
        key: changes.pop(key)
        for key in list(changes)
        if key in {*TEXTS, "paired", "instead", "becomes", "right", "wrong"}
    }
    texts = {key: value for key, value in (TEXTS | of_texts).items() if value is not None}
    return TemplatesTask.model_validate({"kind": "templates", "prompts": 12, "texts": [texts]} | changes)


def words(tokens: tuple[int, ...]) -> list[str]:
    return [str(TOKENIZER.decode([token])).strip() for token in tokens]


def differing(prompt: Prompt) -> list[int]:
    assert prompt.counterfactual is not None
    pairs = zip(prompt.tokens, prompt.counterfactual, strict=True)
    return [place for place, (one, other) in enumerate(pairs) if one != other]


def test_every_circuit_of_the_suites_has_a_task() -> None:
    circuits = {one.chain for one in PACKAGED.values()}
    assert circuits == {
        "subject-verb",
        "gendered-pronoun",
        "greater-than",
        "docstring",
        "copy-suppression",
        "successor",
    }


@pytest.mark.parametrize("name", PACKAGED)
@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 2**32))
def test_the_counterfactual_of_every_packaged_prompt_differs_in_one_word_and_nowhere_else(name: str, seed: int) -> None:
    asked = PACKAGED[name].with_count(48).with_seed(seed)
    changed = {texts.changed for texts in asked.texts}
    for prompt in asked.build(TOKENIZER).prompts:
        (place,) = differing(prompt)
        assert place in {prompt.positions[label] for label in changed}
        assert prompt.positions[END] == len(prompt.tokens) - 1
        assert not set(prompt.right.tokens) & set(prompt.wrong.tokens)
        assert prompt.right
        assert prompt.wrong


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_prompts_differ_and_each_template_has_prompts_of_one_length(name: str) -> None:
    made = PACKAGED[name].with_count(128).build(TOKENIZER)
    assert len({prompt.tokens for prompt in made.prompts}) > 48
    assert len({(prompt.template, len(prompt.tokens)) for prompt in made.prompts}) == len(made.balance)
    assert max(made.balance.values()) - min(made.balance.values()) <= 1


@pytest.mark.parametrize("name", [name for name, one in PACKAGED.items() if len(one.texts[0].cases) == TWO])
def test_the_right_answers_are_shared_out_evenly_in_all_prompts_and_in_halves(name: str) -> None:
    one = PACKAGED[name]
    made = one.with_count(96).build(TOKENIZER)
    for rows in (tuple(range(96)), *made.halves(), *made.halves(3)):
        rights = Counter(made.prompts[row].right.tokens for row in rows)
        assert min(rights.values()) >= 0.3 * len(rows)


def test_no_packaged_prompt_repeats_its_answer_but_where_the_task_says_so() -> None:
    for name in ("subject-verb::agreement", "gendered-pronoun::pronoun", "successor::next-one"):
        for prompt in PACKAGED[name].with_count(128).build(TOKENIZER).prompts:
            assert prompt.counterfactual is not None
            assert not {*prompt.tokens, *prompt.counterfactual} & set(prompt.right.tokens)
    for name in ("docstring::arguments", "copy-suppression::running-text"):
        for prompt in PACKAGED[name].with_count(64).build(TOKENIZER).prompts:
            assert prompt.right.token in prompt.tokens


def test_years_have_right_decades_above_and_wrong_ones_below() -> None:
    asked = PACKAGED["greater-than::years"]
    assert asked.answer_metric is METRICS["probability-difference"]
    for prompt in asked.with_count(64).build(TOKENIZER).prompts:
        decade = int(words(prompt.tokens)[prompt.positions["decade"]])
        assert [int(word) for word in words(prompt.right.tokens)] == list(range(decade + 1, 10))
        assert [int(word) for word in words(prompt.wrong.tokens)] == list(range(decade))


def test_the_same_seed_gives_the_same_prompts_and_more_prompts_begin_with_them() -> None:
    few, again, more = (task(prompts=count).build(TOKENIZER) for count in (12, 12, 24))
    assert few == again
    assert [prompt.tokens for prompt in more.prompts][:12] == [prompt.tokens for prompt in few.prompts]
    other = task(seed=1).build(TOKENIZER)
    assert [prompt.tokens for prompt in other.prompts] != [prompt.tokens for prompt in few.prompts]


def test_the_settings_tell_other_words_from_other_prompts() -> None:
    known, more, other = task(), task(prompts=24, seed=5), task(words={"attractor": ["house", "river"]})
    texts = [one.build(TOKENIZER).settings["texts"] for one in (known, more, other)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_a_label_that_comes_again_has_the_same_word_and_a_place_of_its_own() -> None:
    made = task(
        templates=["The {subject:thing} saw a {attractor} and the {subject:thing} near {:attractor} of {copy:=subject}"]
    ).build(TOKENIZER)
    for prompt in made.prompts:
        said = words(prompt.tokens)
        places = [prompt.positions[label] for label in ("subject", "subject-2", "copy")]
        assert places == sorted(places)
        assert len({said[place] for place in places}) == 1
        assert set(prompt.positions) == {"subject", "subject-2", "copy", "attractor", END}
        assert said.count("house") == said.count("wall") == 1  # two slots of one list have different words


def test_pairs_stand_at_the_same_place_of_their_lists() -> None:
    for prompt in task(paired=True).build(TOKENIZER).prompts:
        assert prompt.counterfactual is not None
        (place,) = differing(prompt)
        one, other = sorted((words(prompt.tokens)[place], words(prompt.counterfactual)[place]))
        assert other == f"{one}s"


def test_words_with_other_numbers_of_tokens_are_left_out() -> None:
    strange = {"attractor": ["house", "Zxqvjk"]}
    made = task(words=strange).build(TOKENIZER)
    assert not any("Zxqvjk" in prompt.text for prompt in made.prompts)
    with pytest.raises(TaskError, match=r"needs 2"):
        task(words=strange, templates=["The {subject:thing} near the {attractor} and the {:attractor}"]).build(
            TOKENIZER
        )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"templates": ["The {Subject} is"]}, ["'{Subject}'", "not a slot"]),
        ({"templates": ["The {subject:thing} near {end:attractor}"]}, ["`end`"]),
        ({"templates": ["The {subjet:thing} is"]}, ["'subject'", "did you mean 'subjet'"]),
        ({"templates": ["The {subject:thing} near the {atractor}"]}, ["'atractor'", "did you mean 'attractor'"]),
        ({"templates": ["The {subject:thing} of {x:=nobody}"]}, ["'nobody'"]),
        ({"templates": ["The {subject:thing} and {subject:attractor}"]}, ["same list"]),
        ({"cases": CASES[:1]}, ["one case"]),
        ({"cases": [CASES[0], {**CASES[1], "fill": {"other": ["x"]}}]}, ["different slots"]),
        ({"instead": ["x"]}, ["`instead`", "`wrong`"]),
        ({"becomes": "attractor"}, ["`becomes`", "all three"]),
        ({"paired": True, "cases": [CASES[0], {**CASES[1], "fill": {"thing": ["dogs"]}}]}, ["`paired`"]),
        ({"changed": "attractor"}, ["'attractor'", "`fill`"]),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(ValidationError) as raised:
        task(**changes)
    assert says(str(raised.value), *named)


def test_a_word_that_the_tokenizer_does_not_know_as_an_answer_is_named() -> None:
    with pytest.raises(TaskError, match="'Zxqvjk'"):
        task(cases=[CASES[0], {**CASES[1], "right": "Zxqvjk"}]).build(TOKENIZER)


@given(st.text(max_size=40))
def test_any_text_is_read_as_pieces_or_refused(text: str) -> None:
    try:
        pieces = list(pieces_of(text))
    except ValueError:
        return
    again = "".join(
        piece.replace("{", "{{").replace("}", "}}")
        if isinstance(piece, str)
        else f"{{{piece.label}:{'=' if piece.same_as else ''}{piece.same_as or piece.words}}}"
        for piece in pieces
    )
    slots = [piece for piece in pieces if isinstance(piece, Slot)]
    assert [piece for piece in pieces_of(again) if isinstance(piece, Slot)] == slots
