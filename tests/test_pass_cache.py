"""A model runs its prompts once for many readings, and what is kept of that changes no number and takes little room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from auditing import Audited, ioi, repeated
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patching_cases import TASK
from tiny_models import save_tiny
from torch import Tensor

from circuit_assertions.engine import Model, cache, pass_cache
from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading
from circuit_assertions.measures.sweeping import Sweep
from circuit_assertions.tasks import Prompt, PromptSet

MANY = ioi(prompts=24, templates=TASK.templates, seed=3)
OTHERS = ioi(prompts=24, templates=TASK.templates, seed=4)
SET = (Head(0, 1), Head(2, 3))

READ: dict[str, Callable[[Audited], Reading]] = {
    "path": lambda some: some.read("path-effect", MANY, receiver="logits"),
    "knock-out": lambda some: some.read("ablation-effect", MANY, set=SET),
    "faithful": lambda some: some.read("faithfulness", MANY, set=SET),
    "answers": lambda some: some.read("answer-rate", MANY),
    "difference": lambda some: some.read("logit-difference", MANY),
    "attention": lambda some: some.read("attention", MANY, query="end", key="indirect-object"),
    "copying": lambda some: some.read("copy-score", MANY),
    "copying in context": lambda some: some.read("copy-in-context", MANY, at="indirect-object"),
    "suppressing": lambda some: some.read("negative-copy-in-context", MANY),
    "without": lambda some: some.read("direct-effect", MANY, without=SET),
    "elsewhere": lambda some: some.read("total-effect", OTHERS),
    "induction": lambda some: some.read("induction-score", repeated(prompts=4, length=6)),
}


@pytest.fixture(scope="module", params=["gpt2", pytest.param("llama", marks=pytest.mark.complete)])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("kept"), request.param)


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Reading]:
    """Each reading in an audit of its own."""
    return {name: read(Audited(folder, "float64")) for name, read in READ.items()}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each batch of clean prompts or of twins that a model was run over, everything kept."""
    seen: list[object] = []
    capture = cache.capture

    def counted(model: Model, tokens: Tensor) -> cache.Run:
        seen.append(tokens)
        return capture(model, tokens)

    monkeypatch.setattr(cache, "capture", counted)
    return seen


def check(reading: Reading, expected: Reading) -> None:
    assert reading.components == expected.components
    assert dict(reading.settings) == dict(expected.settings)
    np.testing.assert_allclose(reading.values, expected.values, rtol=0, atol=1e-11 * np.abs(expected.values).max())


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.sampled_from(sorted(READ)), min_size=2, max_size=6))
@pytest.mark.complete
def test_readings_are_the_same_in_any_order(folder: Path, alone: dict[str, Reading], order: list[str]) -> None:
    some = Audited(folder, "float64")
    for name in order:
        check(READ[name](some), alone[name])


def test_a_model_runs_its_prompts_once(folder: Path, runs: list[object]) -> None:
    some = Audited(folder)
    READ["path"](some)
    assert len(runs) == 2  # the clean prompts and their twins
    for name in ("knock-out", "faithful", "attention", "copying", "suppressing", "without", "copying in context"):
        READ[name](some)
    assert len(runs) == 2
    READ["elsewhere"](some)
    assert len(runs) == 4


def test_what_shows_nothing_to_patch_is_not_kept(folder: Path, runs: list[object]) -> None:
    some = Audited(folder)
    READ["attention"](some)
    assert not runs
    READ["path"](some)
    assert len(runs) == 2


def test_a_checkpoint_that_is_forgotten_is_run_again(folder: Path, runs: list[object]) -> None:
    some = Audited(folder)
    READ["path"](some)
    some.audit.forget(some.checkpoint)
    READ["path"](some)
    assert len(runs) == 4


@pytest.mark.complete
def test_nothing_is_kept_where_there_is_no_room(
    folder: Path, alone: dict[str, Reading], runs: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pass_cache, "budget", lambda device: 1000)
    some = Audited(folder, "float64")
    for name in ("path", "knock-out", "faithful"):
        check(READ[name](some), alone[name])
    assert len(runs) == 6


def test_templates_whose_prompts_have_several_lengths_are_kept_as_well(folder: Path, runs: list[object]) -> None:
    asked = ioi(prompts=12, templates=[*TASK.templates, "Then, {first} and {second} went. {subject} gave to"])
    some = Audited(folder)
    some.read("ablation-effect", asked, set=SET)
    before = len(runs)
    assert before > 2
    some.read("faithfulness", asked, set=SET)
    assert len(runs) == before
    mixed = Sweep.of(some.audit.model(some.checkpoint), two_lengths(some), lambda done, total: None)
    mixed.means([frozenset(SET)], "mean")
    before = len(runs)
    mixed.means([frozenset(SET[:1])], "mean")
    assert len(runs) == before


def two_lengths(some: Audited) -> PromptSet:
    """Prompts of one template, some of them with another word in front."""
    prompts = some.audit.prompts(MANY, some.checkpoint).prompts
    return PromptSet((*map(_longer, prompts[::2]), *prompts[1::2]), {})


def _longer(prompt: Prompt) -> Prompt:
    assert prompt.counterfactual is not None
    return replace(
        prompt,
        tokens=(prompt.tokens[0], *prompt.tokens),
        counterfactual=(prompt.counterfactual[0], *prompt.counterfactual),
        positions={name: place + 1 for name, place in prompt.positions.items()},
    )


def room_for_one(folder: Path, runs: list[object]) -> int:
    """Bytes in which what one of the two tasks takes is kept, and not what both take."""
    for room in (1 << power for power in range(16, 32)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pass_cache, "budget", lambda device, room=room: room)
            some, before = Audited(folder), len(runs)
            READ["path"](some)
            READ["knock-out"](some)
        if len(runs) == before + 2:
            return room
    raise AssertionError("nothing is kept in any room")


@pytest.mark.complete
def test_what_was_not_asked_for_longest_is_let_go(
    folder: Path, runs: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = room_for_one(folder, runs)
    runs.clear()
    some = Audited(folder)
    READ["path"](some)
    monkeypatch.setattr(pass_cache, "budget", lambda device: room)
    READ["elsewhere"](some)
    assert len(runs) == 4
    some.read("path-effect", OTHERS, receiver="logits")
    assert len(runs) == 4
    READ["faithful"](some)
    assert len(runs) == 6


@dataclass
class Batch:
    """A batch of one prompt, whose activations share their memory."""

    shown: dict[str, list[Tensor]]
    indices: tuple[int, ...] = (0,)


def test_an_activation_that_many_refer_to_is_weighed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.zeros(6, 4)
    batch = Batch({"patterns": [tensor, tensor[2:]], "set": [tensor.T, torch.zeros(5)]})
    for room, kept in (((24 + 5) * 4, True), ((24 + 5) * 4 - 1, False)):
        monkeypatch.setattr(pass_cache, "budget", lambda device, room=room: room)
        held = pass_cache.Kept[Batch]()
        assert list(held.batches("key", tensor.device, 1, lambda: [batch])) == [batch]
        assert (held.get("key") is not None) == kept
