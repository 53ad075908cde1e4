"""Learned masks: the gradient is right, a mask is nearly the best there is, and the verb tells what it rests on."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from auditing import Audited
from boxes_model import BY_POSITION, boxes_tokenizer, build_by_position
from commands import Said
from said import says
from transformers import GPT2Config, GPT2LMHeadModel

from circuit_assertions.diagnosis.errors import DiagnosisError
from circuit_assertions.diagnosis.masks import find_mask, learn
from circuit_assertions.engine.masking import masked_metric, outputs_of_counterfactuals
from circuit_assertions.heads import Head
from circuit_assertions.tasks.entity_tracking import EntityTrackingTask

LAYERS, HEADS = 2, 3


def task(**options: object) -> EntityTrackingTask:
    return EntityTrackingTask.model_validate({"kind": "entity-tracking", "boxes": 2, **options})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """A small random model that knows the task's words."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tokenizer = boxes_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=24, n_layer=LAYERS, n_head=HEADS, initializer_range=0.3
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Audited(folder, dtype="float64")


def test_a_whole_mask_is_the_model_and_none_is_every_head_of_the_counterfactual(tiny: Audited) -> None:
    asked = task(prompts=4, counterfactual="position")
    prompts, model = tiny.audit.prompts(asked, tiny.checkpoint).prompts, tiny.audit.model(tiny.checkpoint)
    other = outputs_of_counterfactuals(model, prompts)
    everyone = tuple(model.layout.all_heads())
    with torch.no_grad():
        whole, none = (masked_metric(model, prompts, other, torch.full((LAYERS, HEADS), kept)) for kept in (1.0, 0.0))
    assert torch.allclose(whole, torch.as_tensor(tiny.read("logit-difference", asked).values), atol=1e-9)
    lost = tiny.read("ablation-effect", asked, set=everyone, ablation="resample").values
    assert torch.allclose(whole - none, torch.as_tensor(lost), atol=1e-9)


def test_the_gradient_is_that_of_finite_differences(tiny: Audited) -> None:
    asked = task(prompts=4, counterfactual="label")
    prompts, model = tiny.audit.prompts(asked, tiny.checkpoint).prompts, tiny.audit.model(tiny.checkpoint)
    other = outputs_of_counterfactuals(model, prompts)
    kept = torch.full((LAYERS, HEADS), 0.7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(masked_metric(model, prompts, other, kept).mean(), [kept])
    step = 1e-6
    for layer, head in itertools.product(range(LAYERS), range(HEADS)):
        sides = []
        for sign in (1, -1):
            moved = kept.detach().clone()
            moved[layer, head] += sign * step
            with torch.no_grad():
                sides.append(float(masked_metric(model, prompts, other, moved).mean()))
        assert float(slope[layer, head]) == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-6)


@pytest.mark.sample(1)
@pytest.mark.parametrize("seed", range(3))
def test_a_learned_mask_is_among_the_best_of_all_sets(tiny: Audited, seed: int) -> None:
    penalty, asked = 0.1, task(prompts=12, counterfactual="object", seed=seed)
    prompts, model = tiny.audit.prompts(asked, tiny.checkpoint), tiny.audit.model(tiny.checkpoint)
    other = outputs_of_counterfactuals(model, prompts.prompts)

    def costs(heads: frozenset[Head]) -> float:
        kept = torch.ones(LAYERS, HEADS, dtype=torch.float64)
        for head in heads:
            kept[head.layer, head.head] = 0
        with torch.no_grad():
            return float(masked_metric(model, prompts.prompts, other, kept).mean()) + penalty * len(heads)

    everyone = list(model.layout.all_heads())
    every_set = [
        frozenset(some) for count in range(len(everyone) + 1) for some in itertools.combinations(everyone, count)
    ]
    ranked = sorted(map(costs, every_set))
    found = costs(frozenset(learn(tiny.audit, tiny.checkpoint, prompts, penalty, seed)))
    assert found <= ranked[len(ranked) // 16]  # of 64 sets
    assert found == costs(frozenset(learn(tiny.audit, tiny.checkpoint, prompts, penalty, seed)))


def test_a_model_that_does_not_do_the_task_carries_nothing(tiny: Audited) -> None:
    with pytest.raises(DiagnosisError, match="the task"):
        find_mask(tiny.audit, tiny.checkpoint, task(prompts=24), "position")
    with pytest.raises(DiagnosisError) as raised:
        find_mask(tiny.audit, tiny.checkpoint, task(prompts=24), "colour")
    assert says(str(raised.value), "colour", "position")


@pytest.mark.complete
def test_the_verb_finds_who_carries_the_position(tmp_path: Path) -> None:
    folder = build_by_position().save(tmp_path / "model")
    options = ["--model", str(folder), "--prompts", "36", "--carries", "position,object", "--device", "cpu"]
    printed = Said.by("masks", *options)
    assert printed.code == 0, printed.err
    assert says(printed.out, "position", "object", "penalty", "random")
    found = json.loads(Said.by("masks", *options, "--json").out)
    by_what = {mask["what"]: mask for mask in found["masks"]}
    names = {role: {f"L{layer}H{head}" for layer, head in heads} for role, heads in BY_POSITION.items()}
    assert {*by_what["object"]["heads"]} == names["value-fetcher"]
    assert {*by_what["position"]["heads"]} == names["position-detector"] | names["position-transmitter"]
    assert by_what["position"]["carries"]["mean"] == 1


def test_a_task_whose_counterfactual_changes_no_single_thing_is_refused() -> None:
    refused = Said.by("masks", "--model", "fixtures/checkpoints/healthy", "--task", "ioi")
    assert refused.code == 2
    assert says(refused.err, "ioi", "entity-tracking")
