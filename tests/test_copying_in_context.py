"""Copying in context: where a pass keeps what enters the blocks, and what the share of the other answers says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from auditing import Audited, given, ioi, repeated
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from reference_model import CAST
from torch import Tensor

from circuit_assertions.engine import Model, Wanted, passes, run_passes
from circuit_assertions.engine.entering import places_of
from circuit_assertions.heads import Head
from circuit_assertions.measures.kinds.copying_in_context import _below
from circuit_assertions.tasks import Prompt, PromptSet

IOI = ioi(prompts=16)
PLACES = (None, "end", "subject-1", "indirect-object", "after-subject-1")


def prompts_of(audited: Audited) -> tuple[Model, PromptSet]:
    return audited.audit.model(audited.checkpoint), audited.audit.prompts(IOI, audited.checkpoint)


def test_heads_that_copy_read_one_and_heads_that_suppress_nothing(reference_folder: Path) -> None:
    audited = Audited(reference_folder)
    copied = audited.read("copy-in-context", IOI, at="indirect-object")
    for role, share in (("name-mover", 1.0), ("backup-name-mover", 1.0), ("negative-name-mover", 0.0)):
        for head in CAST[role]:
            assert copied.of_head(Head(*head)).mean() == pytest.approx(share, abs=0.01)
    for head in CAST["s-inhibition"]:  # which write the same whatever name they read
        assert 0.2 < copied.of_head(Head(*head)).mean() < 0.8


@pytest.mark.parametrize("at", [None, "subject-2"])
def test_the_negative_is_what_is_left_of_one(tiny_folder: Path, at: str | None) -> None:
    audited, operands = Audited(tiny_folder, "float64"), {} if at is None else {"at": at}
    copied, suppressed = (audited.read(f"{sign}copy-in-context", IOI, **operands).values for sign in ("", "negative-"))
    np.testing.assert_allclose(copied + suppressed, 1.0, rtol=0, atol=1e-12)
    assert 0 <= copied.min() < copied.max() <= 1


@for_all(
    st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=4, max_size=4), min_size=1, max_size=5),
    st.integers(0, 3),
)
@settings(deadline=None)
def test_equal_logits_count_half(rows: list[list[float]], own: int) -> None:
    logits = torch.tensor(rows)
    others = torch.tensor([place not in (own, 1) for place in range(4)]).expand(len(rows), -1)  # 1 is no answer
    found = _below(logits, torch.full((len(rows), 1), own), others)
    for row, share in zip(rows, found.tolist(), strict=True):
        compared = [row[place] for place in range(4) if place not in (own, 1)]
        below = [1.0 if one < row[own] else 0.5 if one == row[own] else 0.0 for one in compared]
        assert share == pytest.approx(sum(below) / len(below))


def test_a_head_that_writes_nan_is_not_read_as_one_that_does_not_care() -> None:
    others = torch.tensor([[False, True, True]])
    assert _below(torch.tensor([[0.0, torch.nan, 1.0]]), torch.tensor([[0]]), others).isnan().all()


def test_more_prompts_bring_more_answers_to_compare_with(tiny_folder: Path) -> None:
    """Of two prompts with two answers each, three others are compared; the same prompt alone has one other."""
    one = {"clean": "Then, Mary and John went to the store. John gave a ring to", "right": "Mary", "wrong": "John"}
    two = {"clean": "Then, Tom and Anna went to the store. Anna gave a ring to", "right": "Tom", "wrong": "Anna"}
    alone, among = (
        Audited(tiny_folder, "float64").read("copy-in-context", task) for task in (given(one), given(one, two))
    )
    assert set(np.unique((alone.values * 6).round(9))) <= {0.0, 2.0, 4.0, 6.0}  # of three places, none, one, two or all
    assert not set(np.unique((among.values[0] * 18).round(9))) <= {0.0, 6.0, 12.0, 18.0}


def test_repeated_tokens_have_answers_too(tiny_folder: Path) -> None:
    values = Audited(tiny_folder).read("copy-in-context", repeated(prompts=8, length=6)).values
    assert 0 <= values.min() < values.max() <= 1


@for_all(st.sets(st.sampled_from(PLACES), min_size=1))
@settings(deadline=None, max_examples=8)
def test_a_pass_keeps_what_enters_blocks_at_the_places_that_are_wanted_and_no_others(
    opened: tuple[Model, PromptSet], places: set[str | None]
) -> None:
    model, prompts = opened
    for taken in run_passes(model, prompts, Wanted(entering=frozenset(places))):
        positions, _ = places_of(taken.prompts, frozenset(places))
        assert taken.entering is not None
        assert {len(block[0]) for block in taken.entering.blocks} == {positions.shape[1]}
        whole = everywhere(model, taken.prompts)
        for row, prompt in enumerate(taken.prompts):
            wanted = {place for each in places for place in where(prompt, each)}
            assert wanted <= set(positions[row].tolist())
            for place in sorted(wanted):
                for layer, block in enumerate(whole):
                    got = taken.entering.at(layer, torch.tensor([row]), torch.tensor([place]))
                    torch.testing.assert_close(got[0], block[row, place])


@pytest.fixture(scope="module")
def opened(tiny_folder: Path) -> tuple[Model, PromptSet]:
    return prompts_of(Audited(tiny_folder, "float64"))


def where(prompt: Prompt, place: str | None) -> list[int]:
    answers = (*prompt.right.tokens, *prompt.wrong.tokens)
    if place is not None:
        return [prompt.positions[place]]
    return [position for position, token in enumerate(prompt.tokens) if token in answers]


@torch.no_grad()
def everywhere(model: Model, prompts: tuple[Prompt, ...]) -> list[Tensor]:
    """What enters each block at every position [prompts, positions, d_model]."""
    seen: list[Tensor] = []
    layers = range(model.layout.layers)
    hooks = [(model.layout.residual_before(layer), lambda value, hook: seen.append(value.clone())) for layer in layers]
    model.bridge.run_with_hooks(torch.tensor([prompt.tokens for prompt in prompts]), fwd_hooks=hooks)
    return seen


def test_a_prompt_without_its_answers_keeps_a_place_that_is_not_read() -> None:
    prompt = Prompt((5, 6, 7), "", {"end": 2})
    positions, slots = places_of((prompt, replace(prompt, positions={"end": 1})), frozenset({None}))
    assert positions.shape == (2, 1)
    assert slots.tolist() == [[-1, -1, -1]] * 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.complete
def test_in_half_precision_it_is_nearly_the_same_alone_and_with_patching(tiny_folder: Path, dtype: str) -> None:
    """And what is kept for one position is run again where another is wanted."""
    precise = Audited(tiny_folder).read("copy-in-context", IOI, at="subject-2").values
    alone, beside = Audited(tiny_folder, dtype), Audited(tiny_folder, dtype)
    beside.read("path-effect", IOI)
    for at in ("subject-1", "subject-2"):
        first, second = (one.read("copy-in-context", IOI, at=at).values for one in (alone, beside))
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)
    assert np.abs(first - precise).mean() < 0.05


def test_the_logits_of_the_whole_vocabulary_are_not_formed(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audited = Audited(tiny_folder)
    readout = type(audited.audit.model(audited.checkpoint).readout)

    def refuse(self: object, rows: Tensor) -> Tensor:
        raise AssertionError("all logits were formed")

    monkeypatch.setattr(readout, "all_logits", refuse)
    assert audited.read("copy-in-context", IOI, at="subject-2").prompts == 16


def test_one_prompt_at_a_time_reads_the_same(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = Audited(tiny_folder, "float64").read("copy-in-context", IOI).values
    monkeypatch.setattr(passes, "budget", lambda device: 0)
    alone = Audited(tiny_folder, "float64").read("copy-in-context", IOI).values
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-12)
