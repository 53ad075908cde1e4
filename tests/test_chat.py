"""Prompts in the assistant's turn: the same words at the same labels, one BOS, and the same text on every day."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pytest
from auditing import HEALTHY, ioi
from chat_tokenizers import CHATML, LLAMA, TRIMMED, WORDS, bytes_tokenizer, save_tiny_chat, words_tokenizer
from commands import Said
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from said import says
from suite_texts import write

from circuit_assertions.assertions import SuiteError, load_circuit, load_suite
from circuit_assertions.assertions.task_lookup import find_task
from circuit_assertions.assertions.thresholds import same_prompts
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.tasks import END, Chat, GivenPromptsTask, IoiTask, RepeatedTokensTask, TaskError
from circuit_assertions.tasks.chat import DATE

TEMPLATES = {"chatml": CHATML, "llama": LLAMA, "trimmed": TRIMMED}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
MESSAGE = TEXT.filter(lambda text: bool(text.strip()))
FEW = ("Then, {first} and {second} had a long argument, and afterwards {subject} gave a {object} to",)
PAIR = {
    "clean": "Then, {giver:Mary} and {taker:John} went to the store. Mary gave a ring to",
    "counterfactual": "Then, Tom and Kate went to the store. Anna gave a ring to",
    "right": "John",
    "wrong": "Mary",
}


def conversation(**said: Any) -> Chat:
    return Chat.model_validate(said)


def pairs(**changes: Any) -> GivenPromptsTask:
    return GivenPromptsTask.model_validate({"kind": "prompts", "pairs": [PAIR]} | changes)


# -- what every prompt keeps ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    template=st.sampled_from(list(TEMPLATES)),
    prefix=TEXT,
    user=MESSAGE,
    system=st.none() | MESSAGE,
    adds_bos=st.booleans(),
)
def test_labels_answers_and_the_end_of_a_prompt_are_those_without_the_template(
    template: str, prefix: str, user: str, system: str | None, adds_bos: bool
) -> None:
    tokenizer = bytes_tokenizer(TEMPLATES[template], adds_bos=adds_bos)
    chat = {"user": user, "system": system}
    for make in (lambda **said: ioi(prompts=4, templates=FEW, **said), pairs):
        asked = make(prefix=prefix, chat=chat).build(tokenizer).prompts
        plain = make(bos="never").build(tokenizer).prompts
        for one, other in zip(asked, plain, strict=True):
            # The first word may be read together with what stands before it; nothing behind it can be.
            first = len(tokenizer("Then", add_special_tokens=False)["input_ids"])
            shift = len(one.tokens) - len(other.tokens)
            assert one.tokens[-(len(other.tokens) - first) :] == other.tokens[first:]
            assert one.counterfactual is not None
            assert other.counterfactual is not None
            assert one.counterfactual[-(len(other.tokens) - first) :] == other.counterfactual[first:]
            assert one.counterfactual[: shift + first] == one.tokens[: shift + first]
            assert one.positions == {label: place + shift for label, place in other.positions.items()}
            assert (one.right, one.wrong, one.text) == (other.right, other.wrong, other.text)
            assert one.before.endswith(prefix)
            assert tokenizer.decode(one.tokens, skip_special_tokens=False).startswith(one.before)


@settings(deadline=None, max_examples=40)
@given(prefix=TEXT)
def test_a_prefix_alone_stands_before_every_prompt(prefix: str) -> None:
    tokenizer = bytes_tokenizer(None, adds_bos=True)
    for prompt in ioi(prompts=4, templates=FEW, prefix=prefix).build(tokenizer).prompts:
        assert tokenizer.decode(prompt.tokens) == f"<s>{prefix}{prompt.text}"
        at = prompt.positions["indirect-object"]
        assert (prompt.tokens[at],) == prompt.right.tokens


def test_the_text_before_a_prompt_is_what_transformers_renders() -> None:
    tokenizer = bytes_tokenizer(CHATML)
    (prompt,) = pairs(chat={"user": "Hello.", "system": "Be brief."}, prefix="Well: ").build(tokenizer).prompts
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]
    rendered = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    assert prompt.before == f"{rendered}Well: "
    assert list(prompt.tokens[:-1]) == tokenizer(f"{prompt.before}{prompt.text[:-3]}")["input_ids"]


@pytest.mark.parametrize("start", ["", "\n", "\n\n  ", "  {% if true %}\n{% endif %}", "{%- if true %}\n{%- endif %}"])
@pytest.mark.parametrize("end", ["", "\n", "{# the end #}\n", "  {% if true %}\n  {% endif %}"])
def test_a_template_is_rendered_as_it_stands(start: str, end: str) -> None:
    tokenizer = bytes_tokenizer(f"{start}{CHATML}{end}")
    said = [{"role": "user", "content": "Hello."}]
    rendered = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    assert conversation(user="Hello.").render(tokenizer, "ioi").text == rendered


def test_the_first_of_several_templates_that_is_used_is_the_default() -> None:
    tokenizer = bytes_tokenizer(None)
    tokenizer.chat_template = {"tool_use": "other {{ messages[0]['content'] }}", "default": CHATML}
    assert conversation().render(tokenizer, "ioi") == conversation().render(bytes_tokenizer(CHATML), "ioi")
    del tokenizer.chat_template["default"]
    refused(tokenizer, "chat", "tool_use")


@pytest.mark.parametrize("task", [ioi(prompts=4, templates=FEW), pairs()], ids=["ioi", "prompts"])
def test_settings_tell_conversations_apart(task: IoiTask | GivenPromptsTask) -> None:
    tokenizer, other = bytes_tokenizer(CHATML), bytes_tokenizer(TRIMMED.replace("assistant", "model"))
    said: list[dict[str, Any]] = [
        {},
        {"prefix": "Well: "},
        {"chat": True},
        {"chat": {"user": "Hello."}},
        {"chat": {"system": "Hello."}},
        {"chat": True, "prefix": "Well: "},
    ]
    built = [type(task).model_validate(task.as_given() | one).build(tokenizer) for one in said]
    built.append(type(task).model_validate(task.as_given() | {"chat": True}).build(other))
    assert len({repr(prompts.settings) for prompts in built}) == len({prompts.token_hash for prompts in built}) == 7
    assert built[0].settings == task.build(tokenizer).settings
    assert not {"chat", "prefix"} & set(built[0].settings)
    assert built[4].settings["chat"] == {
        "user": conversation().user,
        "system": "Hello.",
        "template": conversation(system="Hello.").render(tokenizer, "ioi").settings["template"],
    }


# -- BOS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize(
    ("template", "bos", "first"),
    [
        (CHATML, "tokenizer", "<|im_start|>"),  # its template writes none
        (CHATML, "always", "<s>"),
        (CHATML, "never", "<|im_start|>"),
        (LLAMA, "tokenizer", "<s>"),
        (LLAMA, "always", "<s>"),
    ],
)
def test_no_prompt_has_two_bos_tokens(template: str, bos: str, first: str, adds_bos: bool) -> None:
    tokenizer = bytes_tokenizer(template, adds_bos=adds_bos)
    for make in (lambda **said: ioi(prompts=4, templates=FEW, **said), pairs):
        for prompt in make(chat=True, bos=bos).build(tokenizer).prompts:
            for tokens in (prompt.tokens, prompt.counterfactual or ()):
                assert tokenizer.convert_ids_to_tokens(tokens[0]) == first
                assert tokens.count(tokenizer.bos_token_id) == (first == "<s>")
            assert prompt.tokens[prompt.positions[END]] == prompt.tokens[-1]


def test_a_bos_that_the_template_writes_cannot_be_left_out() -> None:
    with pytest.raises(TaskError) as caught:
        ioi(chat=True, bos="never").build(bytes_tokenizer(LLAMA))
    assert says(caught.value, "`bos: never`", "'<s>'", "`bos`")
    tokenizer = bytes_tokenizer(CHATML)  # as SmolLM2's: the mark of every turn is its BOS
    tokenizer.bos_token = "<|im_start|>"
    prompt = pairs(chat=True, bos="always").build(tokenizer).prompts[0]
    assert prompt.tokens.count(tokenizer.bos_token_id) == 2  # two turns


# -- dates ------------------------------------------------------------------------------------------------------------

DATED = "{% if strftime_now is defined %}Today is {{ strftime_now('%d %b %Y') }}. {% endif %}" + CHATML


def test_a_template_with_a_date_has_the_same_one_on_every_day() -> None:
    tokenizer = bytes_tokenizer(DATED)
    day = datetime.date.fromisoformat(DATE)
    dated = conversation().render(tokenizer, "ioi")
    assert dated.text.startswith(f"Today is {day.day} Jul {day.year}. <|im_start|>")
    assert dated.settings["date"] == DATE
    assert "date" not in conversation().render(bytes_tokenizer(CHATML), "ioi").settings
    inside = "{% macro today() %}{{ strftime_now('%Y') }}{% endmacro %}{{ today() }}" + CHATML
    assert conversation().render(bytes_tokenizer(inside), "ioi").text.startswith(f"{day.year}<|im_start|>")


CODES = re.findall("%.", "%F%D%x%c%T%X%R%Y%y%G%m%B%b%h%d%e%A%a%u%w%j%U%V%W%H%I%M%S%f%p%Z%z%%")


@settings(deadline=None, max_examples=12)
@given(st.lists(st.sampled_from([*CODES, "d", "Y", " ", ", ", "-"]), min_size=1, max_size=6))
def test_a_date_is_written_as_python_does(pieces: list[str]) -> None:
    wanted = "".join(pieces)
    tokenizer = bytes_tokenizer("{{ strftime_now('" + wanted + "') }}|" + CHATML)
    written, _, _ = conversation().render(tokenizer, "ioi").text.partition("|<|im_start|>")
    assert written == datetime.datetime.fromisoformat(DATE).strftime(wanted)


# -- templates that cannot be used ------------------------------------------------------------------------------------


def refused(tokenizer: Any, *named: str, **chat: str) -> None:
    with pytest.raises(TaskError) as caught:
        ioi(chat=chat or True).build(tokenizer)
    assert says(caught.value, "ioi", *named)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_a_template_is_refused_with_the_way_out() -> None:
    refused(bytes_tokenizer(None), "`chat`", "--tokenizer=path/")


NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system, please.') }}{% endif %}" + CHATML
DROPS = "{% for m in messages %}{% if m['role'] != 'system' %}[{{ m['content'] }}]{% endif %}{% endfor %}"


def test_a_system_message_that_the_template_refuses_or_drops_is_refused() -> None:
    for template, named in ((NO_SYSTEM, "No system, please."), (DROPS, "leaves out")):
        tokenizer = bytes_tokenizer(template)
        refused(tokenizer, named, "`system`", "`user`", system="Be brief.")
        assert conversation().render(tokenizer, "ioi").text
    # What it drops may stand in the text by chance.
    refused(bytes_tokenizer(f"Be brief. {DROPS}"), "`system`", system="Be brief.")
    # The text of a template that writes this very message by itself, as SmolLM2's does.
    default = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}" + CHATML
    asked = [conversation(system=system).render(bytes_tokenizer(default), "ioi").text for system in (None, "Be brief.")]
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{% for %}", ["TemplateSyntaxError"]),
        ("{{ raise_exception('Not today.') }}", ["Not today."]),
        ("{{ messages[5]['content'] }}", ["UndefinedError"]),
        ("{{ ''.__class__.__mro__ }}", ["SecurityError"]),
        ("{% include 'planted.py' %}", []),
        ("no message", ["user"]),
        ("{% for m in messages %}{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}", ["user"]),
        ("{{ 'x' * 2000000 }}{{ messages[0]['content'] }}", ["1000000"]),
        (CHATML + "{{ range(100000)|list|random }}", ["each time"]),
    ],
)
@pytest.mark.parametrize("chat", [{}, {"system": "Be brief."}], ids=["user", "system"])
def test_a_template_that_cannot_be_rendered_is_refused(template: str, named: list[str], chat: dict[str, str]) -> None:
    if named == ["user"] and chat:
        named = ["system"]  # the first that is missing
    refused(bytes_tokenizer(template), "`chat`", *named, **chat)


def test_a_name_at_the_very_beginning_needs_a_space() -> None:
    tokenizer = bytes_tokenizer(CHATML)
    first = ("{first} and {second} went to the store. {subject} gave a ring to",)
    with pytest.raises(TaskError) as caught:
        ioi(chat=True, templates=first).build(tokenizer)
    assert says(caught.value, "`prefix`", "space")
    for prompt in ioi(chat=True, templates=first, prefix=" ", prompts=8).build(tokenizer).prompts:
        named = [prompt.tokens[prompt.positions[label]] for label in ("indirect-object", "subject-1", "subject-2")]
        assert named == [*prompt.right.tokens, *prompt.wrong.tokens, *prompt.wrong.tokens]


def test_words_of_a_conversation_that_the_tokenizer_does_not_know_are_refused() -> None:
    with pytest.raises(TaskError) as caught:
        ioi(chat=True).build(words_tokenizer())
    assert says(caught.value, "'Continue'")


# -- the schema and the command line ----------------------------------------------------------------------------------


def test_a_conversation_is_true_or_a_mapping() -> None:
    assert ioi(chat=True).chat == conversation() == ioi(chat={}).chat
    assert ioi(chat=False) == ioi() == ioi(chat=None)
    task = ioi(chat={"system": "Be brief.", "compare": False}, prompts={"start": 8, "budget": 32})
    assert [look.chat for look in task.looks] == 3 * [conversation(system="Be brief.", compare=False)]
    assert IoiTask.model_validate(task.as_given()).chat == task.chat
    assert task.looks[0].with_seed(1).without_chat() == ioi(prompts=8, seed=1)
    with pytest.raises(ValidationError):
        RepeatedTokensTask.model_validate({"kind": "repeated-tokens", "chat": True})


@pytest.mark.parametrize(
    ("said", "place", "named"),
    [
        ("kind: ioi, chat: {usr: Hello}", "3:25", ["'usr'", "'user'"]),
        ("kind: ioi, chat: please", "3:18", ["'please'", "`true`"]),
        ("kind: ioi, chat: {user: ''}", "3:25", ["1 character"]),
        ("kind: ioi, chat: {compare: 1}", "3:25", ["boolean"]),
        ("kind: ioi, chats: true", "3:18", ["'chats'", "'chat'"]),
        ("kind: ioi, prefix: [a]", "3:18", ["a list"]),
        ("kind: repeated-tokens, chat: true", "3:30", ["'chat'"]),
    ],
)
def test_what_is_wrong_with_a_conversation_is_told_with_its_place(
    tmp_path: Path, said: str, place: str, named: list[str]
) -> None:
    body = "assertions: [{id: a, measure: loss, task: t, expect: {at-least: 0}}]"
    write(tmp_path, {"x.yaml": f"suite: x\ntasks:\n  t: {{{said}}}\n{body}\n"})
    with pytest.raises(SuiteError) as caught:
        load_suite(tmp_path / "x.yaml")
    (line, *_) = str(caught.value).splitlines()
    assert says(line, *named), line
    assert line.split("x.yaml:")[1].startswith(place), line


def test_a_command_changes_conversations_and_nothing_else(tmp_path: Path) -> None:
    pair = '{"clean": "Mary gave it to", "right": "John", "wrong": "Tom"}\n'
    task = "kind: prompts\nfile: pairs.jsonl\nchain: mine\nchat: {system: Be brief.}\n"
    write(tmp_path, {"t.yaml": task, "pairs.jsonl": pair})
    _, kept = find_task(str(tmp_path / "t.yaml"), {"chat": True, "prefix": "Well: "})
    assert isinstance(kept, GivenPromptsTask)
    assert (kept.chat, kept.prefix, kept.folder) == (conversation(system="Be brief."), "Well: ", tmp_path)
    assert kept.count == 1
    _, without = find_task(str(tmp_path / "t.yaml"), {"chat": False})
    assert isinstance(without, GivenPromptsTask)
    assert without.chat is None
    with pytest.raises(SuiteError) as caught:
        find_task("repeated-tokens", {"chat": True})
    assert says(caught.value, "repeated-tokens", "'chat'")


def test_prompts_are_shown_with_what_stands_before_them(tmp_path: Path) -> None:
    bytes_tokenizer(DATED).save_pretrained(tmp_path)
    asked = ("show-task", "ioi", "--model", HEALTHY, "--tokenizer", tmp_path, "--most", 1)
    shown = Said.by(*asked, "--chat", "--prefix", "Well: ")
    assert shown.code == 0, shown.err
    assert says(shown.out, "Today is", "text.<|im_end|>\\n<|im_start|>assistant\\nWell:", DATE)
    assert "im_start" not in Said.by(*asked, "--no-chat").out


@pytest.mark.parametrize("verb", ["discover", "diagnose", "edges"])
def test_a_verb_without_a_template_says_so_in_one_sentence(verb: str, tiny_folder: Path, tmp_path: Path) -> None:
    both = ("--model", tiny_folder, *(("--baseline", tiny_folder) if verb == "diagnose" else ()))
    said = Said.by(verb, *both, "--task", "ioi", "--chat", "--device", "cpu")
    (line,) = said.err.strip().splitlines()[-1:]
    assert said.code == 2
    assert says(line, "ioi", "`chat`", "--tokenizer=path/")


# -- two checkpoints --------------------------------------------------------------------------------------------------

OTHER = WORDS.replace(" . ", " , ")


PAIRS_OF_TEMPLATES = {
    "the same": (WORDS, WORDS, True),
    "the same conversation": (WORDS + "{# otherwise written #}", WORDS, True),
    "none of its own": (None, WORDS, True),
    "another": (OTHER, WORDS, False),
    "one that refuses": (NO_SYSTEM, WORDS, False),
    "none of the baseline's": (WORDS, None, False),
}


@pytest.mark.sample(3)
@pytest.mark.parametrize(("own", "baselines", "fits"), PAIRS_OF_TEMPLATES.values(), ids=PAIRS_OF_TEMPLATES)
def test_a_model_is_asked_in_the_template_of_its_baseline_unless_it_has_another(
    tmp_path: Path, own: str | None, baselines: str | None, fits: bool
) -> None:
    model, baseline = (
        find_checkpoints(str(save_tiny_chat(tmp_path / name, template)))[0]
        for name, template in (("model", own), ("baseline", baselines))
    )
    task = ioi(prompts=4, chat={"user": "Then", "system": "Mary"})
    audit = Audit(Opening(device="cpu"), baseline)
    if fits:
        prompts = audit.prompts(task, model)
        assert prompts == audit.prompts(task, baseline)
        assert prompts.prompts[0].before == "Mary . Then . "
        return
    with pytest.raises(TaskError) as caught:
        audit.prompts(task, model)
    assert says(caught.value, "ioi", "`chat`", "--tokenizer=path/", *([model, baseline] if baselines else []))
    words_tokenizer().save_pretrained(tmp_path / "one")
    same = Audit(Opening(device="cpu", tokenizer=str(tmp_path / "one")), baseline)
    assert same.prompts(task, model) == same.prompts(task, baseline)


def test_prompts_that_are_too_long_with_their_conversation_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_chat(tmp_path / "model")
    (model,) = find_checkpoints(str(folder))
    audit = Audit(Opening(device="cpu"))
    with pytest.raises(TaskError) as caught:
        audit.prompts(ioi(chat={"user": "Then " * 60}, prompts=4), model)
    assert says(caught.value, 64, "`templates:`", "`prefix:`")


# -- circuits ---------------------------------------------------------------------------------------------------------


@pytest.mark.complete
def test_a_circuit_that_was_found_in_chat_proposes_bounds_in_chat_alone(reference_folder: Path, tmp_path: Path) -> None:
    words_tokenizer().save_pretrained(tmp_path / "chat")
    task = "kind: ioi\nprompts: 64\nchat: {user: Then}\n"
    write(tmp_path, {"gifts.yaml": task})
    both = ("--model", reference_folder, "--tokenizer", tmp_path / "chat", "--device", "cpu")
    found = Said.by("discover", *both, "--task", tmp_path / "gifts.yaml", "-o", tmp_path / "c.yaml", "--json")
    assert found.code == 0, found.err
    circuit = load_circuit(tmp_path / "c.yaml")
    assert {head.layer for head in circuit.roles["name-mover"]} == {4, 5}
    others: list[tuple[dict[str, Any], bool]] = [
        ({"chat": {"user": "Then"}}, True),
        ({"chat": {"user": "Then", "compare": False}, "seed": 3}, True),
        ({"chat": {"user": "While"}}, False),
        ({}, False),
    ]
    for keys, same in others:
        assert same_prompts(circuit, ioi(**keys).build(words_tokenizer()).settings) is same
