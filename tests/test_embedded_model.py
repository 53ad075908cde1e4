"""The embedded checkpoint does what the suites are about, on prompts that its training never saw."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
from transformers import GPT2LMHeadModel

from circuit_assertions.assertions import Circuit, load_circuit
from circuit_assertions.checkpoints import fingerprint
from fixtures import world
from fixtures.evaluate import Batch, attention_scores, batch_of, behaviour, copy_scores, repeat_scores

ROOT = Path(__file__).parents[1]
HEALTHY = ROOT / "fixtures" / "checkpoints" / "healthy"
CIRCUITS = ROOT / "suites" / "circuits"


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    loaded: GPT2LMHeadModel = GPT2LMHeadModel.from_pretrained(HEALTHY).eval()
    return loaded


@pytest.fixture(scope="module")
def unseen() -> Batch:
    """Held-out name pairs in held-out combinations of template and object."""
    return batch_of(world.held_out_prompts(512, seed=5))


@pytest.fixture(scope="module")
def ioi() -> Circuit:
    return load_circuit(CIRCUITS / "embedded.ioi.yaml")


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in HEALTHY.iterdir()) <= 8_000_000


def test_held_out_prompts_are_not_in_the_training_text() -> None:
    prompts = world.held_out_prompts(64, seed=5)
    rows = world.rows(Random(0), 64, repeated=0.0)
    text = [" ".join(map(str, next(rows).ids)) for _ in range(300)]
    for prompt in prompts:
        assert world.pair_held_out(prompt.io, prompt.subject)
        asked = " ".join(map(str, world.encode(prompt.words)))
        assert not any(asked in row for row in text)


@pytest.mark.parametrize("opening", [(), (world.END_OF_TEXT,)])
def test_it_answers_with_the_indirect_object(model: GPT2LMHeadModel, opening: tuple[str, ...]) -> None:
    said = behaviour(model, batch_of(world.held_out_prompts(512, seed=5), opening))
    assert said["rate"] >= 0.97
    assert said["difference"] >= 2.0


def test_it_has_heads_for_induction(model: GPT2LMHeadModel) -> None:
    scores = repeat_scores(model)
    assert float(scores["previous"].max()) >= 0.5
    assert float(scores["induction"].max()) >= 0.5


def test_its_name_movers_choose_the_right_name_and_copy_it(model: GPT2LMHeadModel, unseen: Batch, ioi: Circuit) -> None:
    attention, copying = attention_scores(model, unseen), copy_scores(model)
    for layer, head in ioi.roles["name-mover"]:
        assert float(attention["end->io"][layer, head]) >= 0.4
        assert float(copying[layer, head]) >= 0.85
    movers = tuple(torch.tensor(ioi.roles["name-mover"]).T)
    subject = attention["end->s1"] + attention["end->s2"]
    assert float((attention["end->io"][movers] / subject[movers]).max()) >= 2.0


@pytest.mark.parametrize("name", ["ioi", "induction"])
def test_its_circuits_are_of_these_very_weights(name: str) -> None:
    circuit = load_circuit(CIRCUITS / f"embedded.{name}.yaml")
    assert circuit.base is not None
    assert circuit.base.fingerprint is not None
    assert circuit.base.fingerprint.partition("-")[0] == fingerprint([HEALTHY / "model.safetensors"])
