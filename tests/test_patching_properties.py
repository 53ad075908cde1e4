"""What holds of path effects whatever is asked: prompts, senders and receivers do not get into each other's way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from auditing import ioi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive_patching import exact_softmax
from patching_cases import SENDERS
from tiny_models import save_tiny
from torch import Tensor

from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.engine import Model
from circuit_assertions.engine.patching import Patching
from circuit_assertions.engine.rows import Rows, Sender
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END, Prompt

TASK = ioi(
    prompts=6,
    templates=[  # as long as each other, with other positions
        "Then, {first} and {second} went to the {place}. {subject} gave a {object} to",
        "{first} and {second} went to the {place}. {subject}, afterwards gave a {object} to",
    ],
)
FEW = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEMANTICS = st.sampled_from(["through-mlps", "direct"])
DIRECTIONS = st.sampled_from(["counterfactual-into-clean", "clean-into-counterfactual"])
SOME_SENDERS = st.lists(st.sampled_from(SENDERS), min_size=1, unique=True)
POSITIONS = st.sampled_from(["end", "subject-2", "indirect-object", "after-subject-1"])
WHICH = st.sampled_from(["q", "k", "v"])
RECEIVERS = st.lists(st.sampled_from([Head(layer, head) for layer in (1, 2) for head in range(4)]), min_size=1)


class Opened:
    """A tiny random model, and the prompts of the task for it."""

    def __init__(self, architecture: str, folder: Path) -> None:
        save_tiny(folder, architecture)
        self.model = Model.of(open_checkpoint(find_checkpoints(str(folder))[0], Opening(device="cpu", dtype="float64")))
        self.prompts: tuple[Prompt, ...] = TASK.build(self.model.source.tokenizer).prompts
        self.whole = self.patching(self.prompts)
        # RMSNorm rounds to float32, and what differs in the last digit of a double may round to either side.
        self.bound = {"gpt2": 1e-10, "llama": 1e-6}[architecture]

    def same(self, one: Tensor, other: Tensor) -> bool:
        return torch.allclose(one, other, rtol=self.bound, atol=self.bound)

    def patching(self, prompts: Sequence[Prompt]) -> Patching:
        with exact_softmax():
            return Patching.of(self.model, prompts)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return Opened(request.param, tmp_path_factory.mktemp("model"))


def effects(way: Patching, senders: Sequence[Sender], asked: dict[str, Any]) -> list[Tensor]:
    """To the logits, through receivers, in total, and on what receivers do themselves, each [senders, prompts]."""
    way = way.towards(asked["direction"])
    receivers, semantics, which = sorted(set(asked["receivers"])), asked["semantics"], asked["which"]
    with exact_softmax():
        return [
            way.to_logits(senders, semantics),
            way.to_inputs(senders, which, receivers, asked["at"], semantics),
            way.total(senders, asked["at"]),
            way.to_attention(senders, "q" if which == "q" else "k", receivers, END, asked["at"], semantics),
            way.to_writes(senders, which, receivers, END if which == "q" else asked["at"], semantics),
        ]


ASKED = st.fixed_dictionaries(
    {"direction": DIRECTIONS, "semantics": SEMANTICS, "which": WHICH, "receivers": RECEIVERS, "at": POSITIONS}
)


def test_the_two_templates_share_a_batch_and_no_position(opened: Opened) -> None:
    assert len({len(prompt.tokens) for prompt in opened.prompts}) == 1
    assert len({prompt.positions["indirect-object"] for prompt in opened.prompts}) > 2
    assert len({prompt.positions["subject-2"] for prompt in opened.prompts}) > 1


@FEW
@given(chosen=st.lists(st.integers(0, 5), min_size=1, unique=True), asked=ASKED)
def test_a_prompts_effects_depend_on_no_other_prompt(opened: Opened, chosen: list[int], asked: dict[str, Any]) -> None:
    """Neither on the order of the prompts, nor on which of them share a batch."""
    senders = SENDERS[1::3]
    among_all = effects(opened.whole, senders, asked)
    alone = effects(opened.patching([opened.prompts[index] for index in chosen]), senders, asked)
    for one, other in zip(alone, among_all, strict=True):
        assert opened.same(one, other[:, chosen])


@FEW
@given(senders=SOME_SENDERS, asked=ASKED)
def test_a_senders_effects_depend_on_no_other_sender(
    opened: Opened, senders: list[Sender], asked: dict[str, Any]
) -> None:
    """Neither on their order, nor on which others are asked."""
    among_all = effects(opened.whole, SENDERS, asked)
    some = effects(opened.whole, senders, asked)
    for one, other in zip(some, among_all, strict=True):
        assert opened.same(one, other[[SENDERS.index(sender) for sender in senders]])


@FEW
@given(budget=st.integers(1, 1 << 20), asked=ASKED)
def test_effects_depend_on_no_memory_budget(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, budget: int, asked: dict[str, Any]
) -> None:
    senders = SENDERS[::4]
    whole = effects(opened.whole, senders, asked)
    with monkeypatch.context() as patch:
        patch.setenv("CIRCUIT_ASSERTIONS_MEMORY", f"{budget}B")
        cut = effects(opened.whole, senders, asked)
    for one, other in zip(cut, whole, strict=True):
        assert opened.same(one, other)


@FEW
@given(asked=ASKED, data=st.data())
def test_receivers_may_be_named_in_any_order(opened: Opened, asked: dict[str, Any], data: st.DataObject) -> None:
    receivers = sorted(set(asked["receivers"]))
    shuffled = data.draw(st.permutations(receivers))
    way = opened.whole.towards(asked["direction"])
    with exact_softmax():
        one, other = (
            way.to_inputs(SENDERS[::2], asked["which"], named, asked["at"], asked["semantics"])
            for named in (receivers, shuffled)
        )
    assert opened.same(one, other)


@FEW
@given(direction=DIRECTIONS, at=POSITIONS)
def test_directly_a_sender_adds_exactly_what_it_writes_otherwise(opened: Opened, direction: Any, at: str) -> None:
    """Before the final norm, so that all senders together add up to the difference of the two runs."""
    way = opened.whole.towards(direction)
    place = way.positions(at)[:, None]  # [prompts, 1]
    rows = Rows(way.blocks, way.base, way.other, place)
    with torch.no_grad():
        *_, (_, below, final) = rows.entering(SENDERS, "direct")
    assert sorted(map(str, below)) == sorted(map(str, SENDERS))
    added = final - rows.place(way.base.final)  # [senders, prompts, 1, d_model]
    of_embeddings = rows.place(way.other.residual[0] - way.base.residual[0])
    between_runs = rows.place(way.other.final - way.base.final)
    assert float(between_runs.abs().max()) > 0.1
    assert opened.same(added.sum(dim=0) + of_embeddings, between_runs)


@FEW
@given(semantics=SEMANTICS, direction=DIRECTIONS)
def test_the_rows_at_the_end_are_those_of_every_position(opened: Opened, semantics: Any, direction: Any) -> None:
    """Following all positions at once or `end` alone gives the same rows there: frozen attention parts positions."""
    way = opened.whole.towards(direction)
    everywhere = torch.arange(way.base.positions).expand(way.base.prompts, -1)  # [prompts, positions]
    ends = way.positions(END)
    all_of_them = Rows(way.blocks, way.base, way.other, everywhere)
    at_end = Rows(way.blocks, way.base, way.other, ends[:, None])
    with torch.no_grad():
        *_, (_, _, whole) = all_of_them.entering(SENDERS, semantics)
        *_, (_, _, alone) = at_end.entering(SENDERS, semantics)
    picked = whole[:, torch.arange(way.base.prompts), ends]  # [senders, prompts, d_model]
    assert opened.same(picked, alone[:, :, 0])
