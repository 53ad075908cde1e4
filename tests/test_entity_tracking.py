"""The task `entity-tracking`: what its prompts say, what each counterfactual changes, and which heads carry that.

The two models that do the task have weights set by hand (tests/boxes_model.py), so that what is found can only be right
or wrong.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from auditing import Audited
from boxes_model import boxes_tokenizer, build_by_label, build_by_position
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from reference_model import ReferenceModel
from said import says

from circuit_assertions.diagnosis.discovery import discover
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END, METRICS, PromptSet
from circuit_assertions.tasks.entity_tracking import EntityTrackingTask
from circuit_assertions.tasks.errors import TaskError

TOKENIZER = boxes_tokenizer()
CHANGES = ("all", "object", "label", "position")
_BOX = re.compile(r"(\w+) is in Box (\w)")


def task(**options: Any) -> EntityTrackingTask:
    return EntityTrackingTask.model_validate({"kind": "entity-tracking", **options})


def built(**options: Any) -> PromptSet:
    return task(**options).build(TOKENIZER)


def boxes_of(tokens: tuple[int, ...]) -> tuple[list[tuple[str, str]], str]:
    """The (object, label) pairs that a prompt says, in order, and the label that it asks for."""
    text = TOKENIZER.decode(tokens)
    asked = re.search(r"Box (\w) contains the$", text)
    assert asked is not None
    return _BOX.findall(text), asked[1]


def word(token: int) -> str:
    return str(TOKENIZER.decode([token]))


# -- prompts ----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10_000), st.sampled_from(CHANGES))
def test_the_counterfactual_changes_one_thing_and_brings_the_wrong_answer(boxes: int, seed: int, changed: str) -> None:
    for prompt in built(boxes=boxes, seed=seed, counterfactual=changed, prompts=2 * boxes).prompts:
        assert prompt.counterfactual is not None
        assert len(prompt.tokens) == len(prompt.counterfactual)
        (clean, asked), (twin, twin_asked) = boxes_of(prompt.tokens), boxes_of(prompt.counterfactual)
        inside, twin_inside = ({label: thing for thing, label in said} for said in (clean, twin))
        place, twin_place = (
            [label for _, label in said].index(for_) for said, for_ in ((clean, asked), (twin, twin_asked))
        )
        assert len({*inside}) == len({*inside.values()}) == boxes
        assert word(prompt.right.token) == inside[asked]
        if changed == "object":
            assert (asked, place) == (twin_asked, twin_place)
            assert not {*inside.values()} & {*twin_inside.values()}
            assert word(prompt.wrong.token) == twin_inside[asked]
        elif changed == "label":
            assert [thing for thing, _ in clean] == [thing for thing, _ in twin]
            assert place == twin_place
            assert asked != twin_asked
            assert word(prompt.wrong.token) == inside[twin_asked]
        elif changed == "position":
            assert inside == twin_inside
            assert asked == twin_asked
            assert word(prompt.wrong.token) == clean[twin_place][0] != inside[asked]
        else:
            assert not {*inside.values()} & {*twin_inside.values()}
            assert (asked, place) != (twin_asked, twin_place)
            assert {*map(word, prompt.wrong.tokens)} == {*inside.values()} - {inside[asked]}


def test_positions_are_where_the_words_stand() -> None:
    for prompt in built(prompts=14, seed=3).prompts:
        said, asked = boxes_of(prompt.tokens)
        at = {label: word(prompt.tokens[place]) for label, place in prompt.positions.items()}
        inside = {label: thing for thing, label in said}
        assert at["query-label"] == at["previous-query-label"] == asked
        assert prompt.positions["previous-query-label"] < prompt.positions["query-label"]
        assert at["correct-object"] == inside[asked] == word(prompt.right.token)
        assert at["object"] == inside[at["label"]] != inside[asked]
        assert at[END] == "the"
        assert prompt.positions[END] == len(prompt.tokens) - 1


def test_every_place_is_asked_for_equally_often_and_chance_is_said() -> None:
    made = built(prompts=70)
    assert made.balance == {f"box {place} of 7": 10 for place in range(1, 8)}
    assert made.settings["chance"] == pytest.approx(1 / 7)


@pytest.mark.parametrize("changed", CHANGES[1:])
def test_the_clean_prompts_are_the_same_whatever_the_counterfactual_changes(changed: str) -> None:
    asked = task(prompts=20, seed=5)
    other = asked.changing(changed)
    assert other is not None
    assert [one.tokens for one in asked.build(TOKENIZER).prompts] == [
        one.tokens for one in other.build(TOKENIZER).prompts
    ]
    assert "moved-answer" in other.offers
    assert "moved-answer" not in asked.offers


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objects": ["apple", "bell"], "boxes": 3}, ("3 boxes", "objects", "2")),
        ({"box-labels": ["A"], "boxes": 2}, ("2 boxes", "box-labels", "1")),
        ({"statement": "the {object} is here"}, ("{label}", "{object}")),
        ({"question": "Box {label}"}, ("before the answer",)),
    ],
)
def test_what_cannot_be_asked_is_refused_by_the_suite(options: dict[str, Any], said: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as raised:
        task(**options)
    assert says(str(raised.value), *said)


@pytest.mark.parametrize("name", ["objects", "box-labels"])
def test_words_that_are_no_single_tokens_are_refused_with_the_way_out(name: str) -> None:
    strange = [f"unheard{number}" for number in range(9)]
    with pytest.raises(TaskError) as raised:
        built(**{name: [*strange, "apple"]})
    assert says(str(raised.value), name, "single tokens", "boxes")


# -- the metric -------------------------------------------------------------------------------------------------------


def test_the_margin_is_over_the_strongest_wrong_answer(tmp_path: Path) -> None:
    audited = Audited(build_by_position().save(tmp_path / "model"))
    asked = task(prompts=4, boxes=3, seed=2)
    found = audited.read("logit-margin", asked)
    model = build_by_position().model
    for prompt, value in zip(asked.build(TOKENIZER).prompts, found.values, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt.tokens])).logits[0, -1]
        margin = logits[prompt.right.token] - max(logits[token] for token in prompt.wrong.tokens)
        assert float(value) == pytest.approx(float(margin), abs=1e-3)
    assert METRICS["logit-margin"].unit == "logits"
    assert audited.read("answer-rate", asked).mean == float((found.values > 0).mean())


# -- what heads carry -------------------------------------------------------------------------------------------------

# By position nothing carries the label; the binder's outputs differ where boxes have changed places, too.
CARRIED = {
    "by position": {
        "position-detector": {"position"},
        "position-transmitter": {"position"},
        "value-fetcher": {"object"},
    },
    "by label": {
        "binder": {"object", "position"},
        "label-transmitter": {"label"},
        "fetcher": {"object"},
    },
}
BUILT = {"by position": build_by_position, "by label": build_by_label}


@pytest.fixture(scope="module", params=list(BUILT))
def compiled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Audited, ReferenceModel]:
    reference = BUILT[request.param]()
    return request.param, Audited(reference.save(tmp_path_factory.mktemp("boxes") / "model")), reference


def test_each_role_carries_what_it_was_made_to_carry(compiled: tuple[str, Audited, ReferenceModel]) -> None:
    name, audited, reference = compiled
    for changed in CHANGES[1:]:
        asked = task(boxes=3, prompts=6, counterfactual=changed)
        for role, heads in reference.cast.items():
            share = audited.read("carries", asked, set=tuple(Head(*head) for head in heads)).mean
            assert share == (changed in CARRIED[name][role]), (role, changed)


def test_carries_is_what_patching_by_hand_says(compiled: tuple[str, Audited, ReferenceModel]) -> None:
    _, audited, reference = compiled
    role, asked = list(reference.cast)[-1], task(boxes=3, prompts=4, counterfactual="object")
    heads = reference.cast[role][:1]  # one of two: the answer is a close thing
    found = audited.read("carries", asked, set=tuple(Head(*head) for head in heads)).values
    assert found.tolist() == [_moved_by_hand(reference, prompt, heads) for prompt in asked.build(TOKENIZER).prompts]


@torch.no_grad()
def _moved_by_hand(reference: ReferenceModel, prompt: Any, heads: tuple[tuple[int, int], ...]) -> float:
    """Whether the answer moves when the inputs of output projections are exchanged, head by head."""
    model = reference.model
    size = model.config.n_embd // model.config.n_head
    kept: dict[int, torch.Tensor] = {}
    blocks = {layer: model.transformer.h[layer].attn.c_proj for layer, _ in heads}
    hooks = [
        block.register_forward_pre_hook(lambda _, given, layer=layer: kept.update({layer: given[0].clone()}))
        for layer, block in blocks.items()
    ]
    model(torch.tensor([prompt.counterfactual]))
    for hook in hooks:
        hook.remove()

    def exchange(layer: int, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        changed = given[0].clone()
        for at, head in heads:
            if at == layer:
                changed[..., head * size : (head + 1) * size] = kept[layer][..., head * size : (head + 1) * size]
        return (changed, *given[1:])

    hooks = [
        block.register_forward_pre_hook(lambda _, given, layer=layer: exchange(layer, given))
        for layer, block in blocks.items()
    ]
    logits = model(torch.tensor([prompt.tokens])).logits[0, -1]
    for hook in hooks:
        hook.remove()
    return float(logits[prompt.wrong.token] > logits[prompt.right.token])


def test_carries_is_refused_where_the_counterfactual_brings_no_answer(
    compiled: tuple[str, Audited, ReferenceModel],
) -> None:
    with pytest.raises(Exception, match="moved-answer"):
        compiled[1].read("carries", task(boxes=3, prompts=4), set=(Head(0, 1),))


@pytest.mark.complete
def test_only_heads_that_carry_the_position_get_the_papers_roles(
    compiled: tuple[str, Audited, ReferenceModel],
) -> None:
    name, audited, reference = compiled
    found = discover(audited.audit, audited.checkpoint, task(boxes=4, prompts=32), name="entity-tracking").followed
    cast = {role: tuple(Head(*head) for head in heads) for role, heads in reference.cast.items()}
    if name == "by position":
        assert found.roles == cast
    else:
        assert {*found.roles} == {"unexplained"}
        assert {*found.roles["unexplained"]} == {head for heads in cast.values() for head in heads}
