"""Tasks: prompts whose labels, answers and twins are what they say, for whatever tokenizer the model brings."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from reference_model import word_tokenizer
from tokenizers import Tokenizer, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from circuit_assertions.tasks import (
    END,
    Answers,
    GivenPromptsTask,
    IoiTask,
    Prompt,
    PromptSet,
    RepeatedTokensTask,
    TaskError,
    check_same_tokens,
)
from circuit_assertions.tasks.words import NAMES, PLACES, TEMPLATES

DATA = Path(__file__).parents[2] / "shared" / "data"
WORDS = word_tokenizer()
SHORT = ("Then, {first} and {second} went. {subject} gave to",)
STORIES: dict[str, Any] = {  # single tokens of a vocabulary of 512 pieces
    "names": ("Lily", "Tim", "Timmy", "She", "They", "One", "The"),
    "places": (),
    "objects": ("friend", "mom"),
    "templates": ("Once upon a time, {first} and {second} saw a big {object}. {subject} said to",),
}


def _tokenizer(name: str) -> Any:
    if name == "words":
        return WORDS
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"a tokenizer that is no part of the project is not here: {folder}")
    return AutoTokenizer.from_pretrained(folder)


def _ioi(**changes: Any) -> IoiTask:
    return IoiTask.model_validate({"kind": "ioi", "prompts": 60} | changes)


def _repeated(**changes: Any) -> RepeatedTokensTask:
    return RepeatedTokensTask.model_validate({"kind": "repeated-tokens", "prompts": 8} | changes)


def _given(*pairs: dict[str, str], **changes: Any) -> GivenPromptsTask:
    return GivenPromptsTask.model_validate({"kind": "prompts", "pairs": pairs} | changes)


def _word_at(prompt: Prompt, label: str, tokenizer: Any) -> str:
    text: str = tokenizer.decode([prompt.tokens[prompt.positions[label]]])
    return text.strip()


FAMILIES = [("words", {}), ("gpt2-tokenizer", {}), ("stories260K", STORIES)]


# -- ioi ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "words"), FAMILIES)
@pytest.mark.parametrize("bos", ["tokenizer", "always", "never"])
def test_every_label_points_at_its_word(name: str, words: dict[str, Any], bos: str) -> None:
    tokenizer = _tokenizer(name)
    for prompt in _ioi(bos=bos, **words).build(tokenizer).prompts:
        subject = _word_at(prompt, "subject-1", tokenizer)
        assert _word_at(prompt, "subject-2", tokenizer) == subject
        assert prompt.positions["subject-1"] < prompt.positions["subject-2"]
        assert prompt.positions["after-subject-1"] == prompt.positions["subject-1"] + 1
        assert prompt.positions[END] == len(prompt.tokens) - 1
        other = _word_at(prompt, "indirect-object", tokenizer)
        assert len(re.findall(rf"\b{subject}\b", prompt.text)) == 2
        assert other != subject
        assert tokenizer.decode([prompt.right.token]).strip() == other
        assert tokenizer.decode([prompt.wrong.token]).strip() == subject
        assert prompt.right.token == prompt.tokens[prompt.positions["indirect-object"]]
        assert prompt.targets == ((prompt.positions[END], prompt.right.token),)
        assert prompt.text.endswith(_word_at(prompt, END, tokenizer))


@pytest.mark.parametrize(("name", "words"), FAMILIES)
def test_the_counterfactual_differs_in_the_three_names_and_nowhere_else(name: str, words: dict[str, Any]) -> None:
    tokenizer = _tokenizer(name)
    for prompt in _ioi(**words).build(tokenizer).prompts:
        twin = prompt.counterfactual
        assert twin is not None
        assert len(twin) == len(prompt.tokens)
        places = [place for place, pair in enumerate(zip(prompt.tokens, twin, strict=True)) if pair[0] != pair[1]]
        names = [prompt.positions[label] for label in ("indirect-object", "subject-1", "subject-2")]
        assert places == sorted(names)
        assert len({*(twin[place] for place in names), prompt.right.token, prompt.wrong.token}) == 5


MIDDLES = ("had a {object} .", "went to the {place} and", "had fun , and", "decided to give it to the {object} .", ",")


def slow_sentence(
    template: str, first: str, second: str, subject: str, place: str, thing: str
) -> tuple[str, list[str]]:
    """A template filled word by word, and the name that each of its words is; empty for other words."""
    fill = {"{first}": first, "{second}": second, "{subject}": subject, "{place}": place, "{object}": thing}
    words = template.replace(",", " ,").replace(".", " .").split()
    return " ".join(fill.get(word, word) for word in words), words


@settings(deadline=None, max_examples=60)
@given(
    middles=st.lists(st.sampled_from(MIDDLES), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
    bos=st.sampled_from(["always", "never"]),
)
def test_a_subject_that_is_repeated_is_the_same_name_everywhere(middles: list[str], seed: int, bos: str) -> None:
    template = (
        f"Then , {{first}} and {{second}} had fun . {' '.join(f'{{subject}} {middle}' for middle in middles)} gave to"
    )
    names, things, places = ("Mary", "John", "Tom", "Kate", "Anna", "Paul"), ("ring", "book"), ("store", "park")
    task = _ioi(prompts=6, seed=seed, names=names, objects=things, places=places, templates=(template,), bos=bos)
    for prompt in task.build(WORDS).prompts:
        start = int(bos == "always")
        subject, other = (_word_at(prompt, label, WORDS) for label in ("subject-1", "indirect-object"))
        first, second = (other, subject) if prompt.template.startswith("ABBA") else (subject, other)
        thing, place = ([word for word in words if word in prompt.text.split()] for words in (things, places))
        said, slots = slow_sentence(template, first, second, subject, *(place or [""])[:1], *(thing or [""])[:1])
        assert WORDS(said, add_special_tokens=False)["input_ids"] == list(prompt.tokens[start:])
        last = max(index for index, word in enumerate(slots) if word == "{subject}") + start
        introduced = slots.index("{second}" if prompt.template.startswith("ABBA") else "{first}") + start
        assert (prompt.positions["subject-2"], prompt.positions["subject-1"]) == (last, introduced)
        assert prompt.positions["after-subject-1"] == introduced + 1
        assert prompt.counterfactual is not None
        twin = {slot: {prompt.counterfactual[start + index] for index, word in enumerate(slots) if word == slot}
                for slot in ("{first}", "{second}", "{subject}")}  # fmt: skip
        assert [len(tokens) for tokens in twin.values()] == [1, 1, 1]
        assert len(set.union(*twin.values(), {prompt.right.token, prompt.wrong.token})) == 5
        for index, word in enumerate(slots):
            same = prompt.tokens[start + index] == prompt.counterfactual[start + index]
            assert same == (word not in twin)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), count=st.integers(5, len(NAMES)))
def test_names_are_drawn_as_from_lists_of_the_others(seed: int, count: int) -> None:
    """As the task drew them before it could take thousands of names: the same seed must ask the same prompts."""
    names = NAMES[:count]
    rng = random.Random(seed)
    for prompt in _ioi(seed=seed, names=names, prompts=4, templates=SHORT, places=(), objects=()).build(WORDS).prompts:
        rng.choice([""]), rng.choice([""])
        right, wrong = rng.sample(list(names), 2)
        others = rng.sample([name for name in names if name not in (right, wrong)], 3)
        twin = WORDS.decode(prompt.counterfactual)
        assert (WORDS.decode([prompt.right.token]), WORDS.decode([prompt.wrong.token])) == (right, wrong)
        assert [word for word in re.findall(r"\w+", twin) if word in names] == others


def test_prompts_are_balanced_over_orders_and_templates() -> None:
    prompts = _ioi(prompts=4 * len(TEMPLATES)).build(WORDS)
    assert prompts.balance == {f"{order}/{number}": 2 for order in ("ABBA", "BABA") for number in range(len(TEMPLATES))}
    for prompt in prompts.prompts:
        first = min(("indirect-object", "subject-1"), key=lambda label: prompt.positions[label])
        assert first == ("indirect-object" if prompt.template.startswith("ABBA") else "subject-1")


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_same_seed_asks_the_same_and_another_seed_asks_something_else(one: int, other: int) -> None:
    for task in (_ioi, _repeated):
        asked = {seed: task(seed=seed).build(WORDS) for seed in {one, other}}
        assert task(seed=one).build(WORDS) == asked[one]
        assert len({prompts.token_hash for prompts in asked.values()}) == len({one, other})


def test_bos_is_what_the_tokenizer_does_unless_said_otherwise() -> None:
    for name, by_itself in (("words", False), ("gpt2-tokenizer", False), ("stories260K", True)):
        tokenizer = _tokenizer(name)
        for bos, expected in (("tokenizer", by_itself), ("always", True), ("never", False)):
            for task in (_ioi(bos=bos, **(STORIES if by_itself else {})), _repeated(bos=bos, length=5)):
                prompt = task.build(tokenizer).prompts[0]
                assert (prompt.tokens[0] == tokenizer.bos_token_id) is expected
                assert tokenizer.bos_token_id not in prompt.tokens[1:]
                if prompt.counterfactual is not None:
                    assert prompt.counterfactual[0] == prompt.tokens[0] or not expected


def test_words_that_are_not_single_tokens_are_left_out() -> None:
    names = ("Mary", "John", "Tom", "Kate", "Anna", "Xyzzy", "Mary Ann", "", "  ")
    prompts = _ioi(names=names, places=("Atlantis", "store"), templates=TEMPLATES[:1]).build(WORDS)
    assert prompts.settings["names"] == 5
    assert all("store" in prompt.text and "Xyzzy" not in prompt.text for prompt in prompts.prompts)


def test_names_that_are_one_token_to_the_vocabulary_are_one_name() -> None:
    uncased = word_tokenizer()
    uncased.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("mary", "Mary"), normalizers.Replace("MARY", "Mary")]
    )
    with pytest.raises(TaskError, match=r"ioi .*\b1 of 5 .*\(Mary\)"):
        _ioi(names=("Mary", "mary", "MARY", "Mary", "mary")).build(uncased)


def test_too_few_single_token_names_are_refused_with_the_way_out() -> None:
    with pytest.raises(TaskError, match=r"ioi .*\b4 of 5 .*`names:`"):
        _ioi(names=("Mary", "John", "Tom", "Kate", "Xyzzy")).build(WORDS)


def test_places_or_objects_are_only_needed_where_a_template_names_them() -> None:
    with pytest.raises(TaskError, match=r"\bplace\b.*\bioi .*`places:`"):
        _ioi(places=("Atlantis",)).build(WORDS)
    assert len(_ioi(places=(), objects=(), templates=SHORT).build(WORDS)) == 60


def test_a_name_that_melts_into_its_neighbours_is_refused() -> None:
    tokenizer = _tokenizer("gpt2-tokenizer")
    with pytest.raises(TaskError, match=r"\bspace .*\bslot\b"):
        _ioi(templates=("{first} and {second} met. {subject} spoke to",)).build(tokenizer)


def test_all_of_the_words_that_come_with_the_task_are_single_tokens_to_gpt2() -> None:
    asked = _ioi().build(_tokenizer("gpt2-tokenizer")).settings
    assert (asked["names"], asked["places"]) == (len(NAMES), len(PLACES))


@pytest.mark.parametrize(
    "template",
    [
        "Then, {first} and {second} met.",
        "Then, {first} and {second} met. {subject} and {first} spoke to",
        "Then, {first} and {second} met. {subject} met {second}, and {subject} spoke to",
        "{subject} met {first} and {second}. {subject} spoke to",
        "Then, {first} met. {subject} saw {second} and spoke to",
        "Then, {first} and {second} met. {subject} gave a {thing} to",
        "Then, {first} and {second} met. {subject}",
        "Then, {first} and {second} met. {subject} spoke to ",
        "Then, {first:Mary} and {second} met. {subject} spoke to",
        "Then, {first!r} and {second} met. {subject} spoke to",
        "Then, {first and {second} met. {subject} spoke to",
        "Then, {} and {second} met. {subject} spoke to",
    ],
)
def test_a_template_that_cannot_be_asked_is_refused_at_once(template: str) -> None:
    with pytest.raises(ValidationError, match="templates"):
        _ioi(templates=(template,))


@pytest.mark.parametrize("changes", [{"prompts": 1}, {"prompts": "9"}, {"seed": True}, {"seed": -1}, {"names": ["A"]}])
def test_settings_are_checked_and_never_converted(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        _ioi(**changes)


# -- repeated tokens ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bos", ["always", "never"])
def test_repeated_tokens_are_ordinary_ones_repeated_once(bos: str) -> None:
    start = int(bos == "always")
    for prompt in _repeated(bos=bos, length=10).build(WORDS).prompts:
        first, second = prompt.tokens[start : start + 10], prompt.tokens[start + 10 :]
        assert first == second
        assert len(set(first)) == 10
        assert not set(first) & set(WORDS.all_special_ids)
        assert prompt.repeat == (start, 10)
        # Only the first token of the repetition cannot be foretold.
        assert prompt.targets == tuple((place, prompt.tokens[place + 1]) for place in range(start + 10, start + 19))


def test_a_vocabulary_that_is_too_small_is_told_what_it_could_be_asked() -> None:
    ordinary = len(WORDS) - 2
    assert _repeated(length=ordinary).build(WORDS).longest == 2 * ordinary
    with pytest.raises(TaskError, match=f"use `length: {ordinary}` or less"):
        _repeated(length=ordinary + 1).build(WORDS)


# -- given prompts ------------------------------------------------------------------------------------------------

PAIR = {
    "clean": "Then, {giver:Mary} and {taker:John} went to the store. Mary gave a ring to",
    "counterfactual": "Then, Tom and Kate went to the store. Anna gave a ring to",
    "right": "John",
    "wrong": "Mary",
}


@pytest.mark.parametrize("name", ["words", "gpt2-tokenizer"])
def test_marks_become_positions_and_leave_the_text(name: str) -> None:
    tokenizer = _tokenizer(name)
    task = _given(PAIR)
    assert task.labels() == {"giver", "taker", END}
    (prompt,) = task.build(tokenizer).prompts
    assert prompt.text == PAIR["clean"].replace("{giver:Mary}", "Mary").replace("{taker:John}", "John")
    assert _word_at(prompt, "giver", tokenizer) == "Mary"
    assert _word_at(prompt, "taker", tokenizer) == "John"
    assert (prompt.right.token, prompt.wrong.token) == (prompt.tokens[4], prompt.tokens[2])
    assert prompt.targets == ((len(prompt.tokens) - 1, prompt.right.token),)


def test_a_mark_over_several_tokens_points_at_the_last() -> None:
    (prompt,) = _given({"clean": "When {both:went to the store} gave"}).build(WORDS).prompts
    assert _word_at(prompt, "both", WORDS) == "store"


def test_text_that_the_tokenizer_does_not_know_is_refused_by_name() -> None:
    asked = ({"clean": "When Mary zapped the frobs"},), "'zapped', 'frobs'"
    with pytest.raises(TaskError, match=f"tokenizer .* {asked[1]} in "):
        _given(*asked[0]).build(WORDS)
    with pytest.raises(TaskError, match=r"tokenizer .* 'zapped' in "):
        _ioi(templates=("Then, {first} and {second} zapped. {subject} gave to",)).build(WORDS)


def test_a_token_that_stands_for_the_unknown_may_be_written_out() -> None:
    tokenizer = _tokenizer("gpt2-tokenizer")
    (prompt,) = _given({"clean": f"{tokenizer.unk_token}When Mary went"}).build(tokenizer).prompts
    assert prompt.tokens[0] == tokenizer.unk_token_id


def test_doubled_braces_are_braces() -> None:
    (prompt,) = (
        _given({"clean": "a {{b}} {x:Mary}} }} went".replace("Mary}}", "Mary}")})
        .build(_tokenizer("gpt2-tokenizer"))
        .prompts
    )
    assert prompt.text == "a {b} Mary } went"


@pytest.mark.parametrize(
    "text",
    ["{Mary} went", "{a:Mary went", "Mary} went", "{A:Mary}", "{a:}", "{a: } b", "{a:x} {a:y}", "{end:x}", "{:x}"],
)
def test_a_bad_mark_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValidationError, match=r"\b(mark|twice)\b"):
        _given({"clean": text})


def test_twins_of_unequal_length_are_refused_with_both_lengths() -> None:
    with pytest.raises(TaskError, match=r"prompt 2: .*\b15 tokens .*counterfactual 16\b"):
        _given(PAIR, PAIR | {"counterfactual": "Then, Tom and Kate went to the the store. Anna gave a ring to"}).build(
            WORDS
        )


@pytest.mark.parametrize("word", ["Xyzzy", "Mary Ann", ""])
def test_an_answer_that_is_no_next_token_is_refused(word: str) -> None:
    with pytest.raises(TaskError, match=rf"prompt 1: {word!r} .*\btoken\b"):
        _given(PAIR | {"right": word}).build(WORDS)


def test_a_task_offers_only_what_all_of_its_prompts_have() -> None:
    assert _given(PAIR).offers == {"positions", "answer", "wrong-answer", "counterfactual"}
    assert _given(PAIR, {"clean": "{giver:Mary} went", "right": "to"}).offers == {"positions", "answer"}
    assert _given(PAIR, {"clean": "{giver:Mary} went"}).labels() == {"giver", END}


def _from_file(tmp_path: Path, text: str) -> GivenPromptsTask:
    (tmp_path / "mine.jsonl").write_text(text, encoding="utf-8")
    content = {"kind": "prompts", "file": "mine.jsonl"}
    return GivenPromptsTask.model_validate(content, context={"folder": tmp_path})


def test_prompts_are_read_from_a_file_beside_the_suite(tmp_path: Path) -> None:
    # A JSON string may hold a line separator as it is.
    odd = {"clean": "Mary\u2028went\x85to the store"}
    task = _from_file(tmp_path, f"{json.dumps(PAIR)}\n\n{json.dumps(odd, ensure_ascii=False)}\n")
    assert [pair.clean for pair in task.pairs] == [PAIR["clean"], odd["clean"]]
    assert task.build(WORDS).prompts[0] == _given(PAIR).build(WORDS).prompts[0]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", r"\bJSON\b"),
        ("[]", r"\bobject\b"),
        ('{"right": "x"}', r"'clean' .*\bmissing\b"),
        ('{"clean": ""}', r"clean: .*\b1 character\b"),
        ('{"clean": "{Mary}"}', r"clean: '{' in '{Mary}' "),
        ('{"clean": "x", "rigth": "y"}', r"'rigth' .*'right'"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=rf"mine\.jsonl:3: .*{problem}"):
        _from_file(tmp_path, f"{json.dumps(PAIR)}\n\n{line}\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'{"clean": "\xe9t\xe9"}')
    (tmp_path / "folder.jsonl").mkdir()
    for name in ("latin.jsonl", "folder.jsonl", "missing.jsonl"):
        with pytest.raises(ValidationError, match=rf"\b{name} .*\bread\b"):
            GivenPromptsTask.model_validate({"kind": "prompts", "file": name}, context={"folder": tmp_path})


def test_prompts_come_from_exactly_one_place(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"`pairs` or .*`file`"):
        _from_file(tmp_path, "\n")
    with pytest.raises(ValidationError, match="not both"):
        _given(PAIR, file="mine.jsonl")


# -- what all tasks share -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=40), st.integers(1, 9))
def test_batches_hold_equal_lengths_and_every_prompt_once(lengths: list[int], most: int) -> None:
    prompts = PromptSet(tuple(Prompt((number,) * n, "", {END: n - 1}) for number, n in enumerate(lengths)))
    batches = list(prompts.batches(most))
    assert sorted(index for indices, _ in batches for index in indices) == list(range(len(lengths)))
    for indices, chosen in batches:
        assert len({len(prompt.tokens) for prompt in chosen}) == 1
        assert len(chosen) <= most
        assert chosen == tuple(prompts.prompts[index] for index in indices)


def test_the_token_hash_covers_everything_that_is_asked() -> None:
    prompt = Prompt((1, 2), "", {END: 1}, right=Answers.of(3), wrong=Answers.of(4), counterfactual=(1, 5))
    variants = [
        prompt,
        Prompt((1, 3), "", {END: 1}, right=Answers.of(3), wrong=Answers.of(4), counterfactual=(1, 5)),
        Prompt((1, 2), "", {END: 1}, right=Answers.of(4), wrong=Answers.of(4), counterfactual=(1, 5)),
        Prompt((1, 2), "", {END: 1}, right=Answers.of(3), wrong=Answers.of(3), counterfactual=(1, 5)),
        Prompt((1, 2), "", {END: 1}, right=Answers.of(3), wrong=Answers.of(4), counterfactual=(1, 6)),
    ]
    assert len({PromptSet((variant,)).token_hash for variant in variants}) == len(variants)


def test_a_tokenizer_that_reports_no_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(TaskError, match=r"\bSlow .*\boffsets\b.*--tokenizer=path/"):
        _ioi().build(Slow())


def _swapped(one: str, other: str) -> Any:
    tokenizer = word_tokenizer()
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), unk_token="<|unknown|>")


def test_tokenizers_with_other_ids_for_what_is_asked_cannot_be_compared() -> None:
    prompts = _given({"clean": "Mary went to the", "right": "store", "wrong": "garden"}).build(WORDS)
    check_same_tokens(prompts, WORDS, word_tokenizer(), model="it", whose="the baseline")
    check_same_tokens(prompts, WORDS, _swapped("Tom", "Kate"), model="it", whose="the baseline")  # neither is asked
    for one, other in (("Mary", "Tom"), ("store", "park"), ("garden", "park")):
        with pytest.raises(TaskError, match=rf"the baseline .*\btokenizer\b.* '({one}|{other})' .*'({one}|{other})'"):
            check_same_tokens(prompts, WORDS, _swapped(one, other), model="it", whose="the baseline")
