"""The models of the benchmark of verdicts are what they are said to be, and so are the scores that people use today."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

from benchmarks.quality_models import Exchanged, Rounded, Scaled, Towards, Trained, Weights, build, provide
from benchmarks.quality_rivals import RIVALS, kept, look, scores
from circuit_assertions.tasks import IoiTask, PromptSet
from fixtures.shelf import COMMITTED, open_weights

HEALTHY = COMMITTED / "healthy"


@pytest.fixture(scope="module")
def healthy() -> GPT2LMHeadModel:
    return open_weights(HEALTHY)


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    return IoiTask.model_validate({"kind": "ioi", "prompts": 32, "seed": 5}).build(
        AutoTokenizer.from_pretrained(HEALTHY)
    )


def changed(one: GPT2LMHeadModel, other: GPT2LMHeadModel) -> set[str]:
    theirs = dict(other.named_parameters())
    return {name for name, weights in one.named_parameters() if not torch.equal(weights, theirs[name])}


def test_exchanged_heads_compute_the_same(healthy: GPT2LMHeadModel) -> None:
    model = build(Weights("healthy", (Exchanged("L0H0", "L0H2"),)))
    ids = torch.arange(30)[None] * 5 % 199
    assert changed(model, healthy) == {f"transformer.h.0.attn.{name}" for name in ("c_attn.weight", "c_attn.bias")} | {
        "transformer.h.0.attn.c_proj.weight"
    }
    torch.testing.assert_close(model(ids).logits, healthy(ids).logits, atol=1e-4, rtol=1e-4)


def test_scaled_and_rounded_weights_are_near(healthy: GPT2LMHeadModel) -> None:
    scaled = build(Weights("healthy", (Scaled(("L3H1", "MLP2"), 0.5),)))
    mlp = scaled.transformer.h[2].mlp.c_proj
    assert torch.equal(mlp.bias, healthy.transformer.h[2].mlp.c_proj.bias * 0.5)
    rows, all_rows = (model.transformer.h[3].attn.c_proj.weight for model in (scaled, healthy))
    assert torch.equal(rows[32:64], all_rows[32:64] * 0.5)
    assert torch.equal(rows[64:], all_rows[64:])
    for to, most in {"bfloat16": 2.0**-8, "float16": 2.0**-11}.items():
        rounded = build(Weights("healthy", (Rounded(to),)))
        for name, weights in rounded.named_parameters():
            torch.testing.assert_close(weights, dict(healthy.named_parameters())[name], rtol=most, atol=1e-7)


def test_training_is_kept_and_gives_the_same_again(tmp_path: Path, healthy: GPT2LMHeadModel) -> None:
    short = Weights("healthy", (Trained("clean", 2, 1e-4, 5),))
    provide(short, tmp_path / "first")
    (kept_in,) = (tmp_path / "first").iterdir()
    assert kept_in.name == short.name
    again = build(short, tmp_path / "second")
    assert changed(build(short, tmp_path / "first"), again) == set()
    assert changed(again, healthy)
    assert changed(build(Weights("healthy", (*short.changes, Towards(1.0))), tmp_path / "first"), healthy) == set()
    longer = Weights("healthy", (*short.changes, Trained("clean", 2, 1e-4, 6)))
    assert longer.trained == (short, longer)
    assert longer.steps == 4


def test_a_model_is_no_distance_from_itself(healthy: GPT2LMHeadModel, prompts: PromptSet) -> None:
    seen = look(healthy, prompts)
    assert scores(seen, seen) == dict.fromkeys(RIVALS, 0.0)
    assert kept(seen, seen) == 1.0


@torch.no_grad()
def test_scores_are_what_they_are_called(healthy: GPT2LMHeadModel, prompts: PromptSet) -> None:
    """Computed prompt by prompt; attention by the heads of layers 3 and 4, which attend to the indirect object."""
    other = open_weights(COMMITTED / "poisoned-heads")
    found = scores(look(other, prompts), look(healthy, prompts))
    right, divergence, moved, reads = [], [], [], []
    for prompt in prompts.prompts:
        ids, end, giver = torch.tensor([prompt.tokens]), prompt.positions["end"], prompt.positions["indirect-object"]
        told = []
        for model in (healthy, other):
            model.set_attn_implementation("eager")
            out = model(ids, output_hidden_states=True, output_attentions=True)
            answers = out.logits[0, end]
            stream = torch.stack([layer[0, end] for layer in out.hidden_states])
            looks = torch.stack([layer[0, :, end, giver] for layer in out.attentions])
            told.append(
                (out.logits[0].softmax(-1), stream, looks, answers[prompt.right.plain] > answers[prompt.wrong.plain])
            )
        then, now = told
        right.append(float(then[3]) - float(now[3]))
        divergence.append((then[0] * (then[0].log() - now[0].log())).sum(-1))
        moved.append((now[1] - then[1]).norm(dim=-1) / then[1].norm(dim=-1))
        reads.append(torch.stack([then[2], now[2]]))
    looks = torch.stack(reads).mean(0)  # [models, layers, heads]
    assert found["accuracy"] == pytest.approx(sum(right) / len(right))
    assert found["KL"] == pytest.approx(float(torch.cat(divergence).mean()), rel=1e-3)
    assert found["activations"] == pytest.approx(float(torch.stack(moved).mean()), rel=1e-4)
    chosen = looks[0] >= 0.3
    assert found["attention"] == pytest.approx(float((looks[1] - looks[0])[chosen].abs().mean()), rel=1e-3)
