"""A model's modules may be less precise than the rows that go through them, and lie on other devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from auditing import Audited, ioi
from patching_cases import SENDERS, TASK
from reference_model import word_tokenizer
from tiny_models import config_of, random_model
from torch import Tensor

from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.engine import Model
from circuit_assertions.engine.module_calls import apply, apply_norm
from circuit_assertions.engine.patching import Patching
from circuit_assertions.engine.rows import Sender
from circuit_assertions.heads import Head
from circuit_assertions.request import Request

RECEIVERS = [Head(1, 1), Head(2, 0)]


@pytest.fixture(scope="module", params=["gpt2", "llama", "gpt-neox"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that bfloat16 can hold, so that nothing but the arithmetic tells precisions apart."""
    folder: Path = tmp_path_factory.mktemp("model")
    words = word_tokenizer()
    random_model(config_of(request.param, len(words))).bfloat16().float().save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def patching(folder: Path, dtype: str) -> Patching:
    source = open_checkpoint(find_checkpoints(str(folder))[0], Opening(device="cpu", dtype=dtype))
    return Patching.of(Model.of(source), TASK.build(source.tokenizer).prompts)


def effects(way: Patching, senders: Sequence[Sender] = SENDERS) -> list[Tensor]:
    return [
        way.to_logits(senders, "through-mlps"),
        way.to_logits(senders, "direct"),
        way.to_inputs(senders, "v", RECEIVERS, "subject-2", "through-mlps"),
        way.total(senders),
    ]


@pytest.mark.sample(3)
@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 5e-2), ("float16", 1e-2)])
def test_effects_in_half_precision_are_near_and_nearer_than_with_half_precise_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, bound: float
) -> None:
    expected = effects(patching(folder, "float32"))
    wide = patching(folder, dtype)
    assert wide.model.bridge.blocks[0].attn.W_O.dtype is getattr(torch, dtype)
    got = effects(wide)
    monkeypatch.setattr("circuit_assertions.engine.patching.widened", lambda blocks, run: run)
    narrow = effects(patching(folder, dtype))
    assert {one.dtype for one in got} == {torch.float32}

    largest = max(float(other.abs().max()) for other in expected)

    def off(ours: list[Tensor]) -> list[float]:
        """The largest error of each reading, in units of the largest effect."""
        return [float((one - other).abs().max()) / largest for one, other in zip(ours, expected, strict=True)]

    assert max(off(got)) <= bound
    assert sum(off(got)) < 0.8 * sum(off(narrow))


def test_in_half_precision_a_prompt_patched_with_itself_changes_nothing(folder: Path) -> None:
    way = patching(folder, "bfloat16")
    same = Patching(way.model, way.prompts, way.base, way.base, blocks=way.blocks)
    for effect, real in zip(effects(same), effects(way), strict=True):
        assert float(effect.abs().max()) <= 1e-5 * max(1.0, float(real.abs().max()))


def test_in_half_precision_a_reading_does_not_depend_on_what_else_is_read(folder: Path) -> None:
    """Patching keeps runs of its own, more precise than the model's."""
    task = ioi(prompts=4)
    alone, beside = Audited(folder, "bfloat16"), Audited(folder, "bfloat16")
    request = Request("logit-difference", task)
    beside.plan(Request("path-effect", task), request)
    one, other = (audited.audit.read(request, audited.checkpoint).values for audited in (alone, beside))
    np.testing.assert_array_equal(one, other)


class Travelling:
    """What a tensor is to those who only move it: a place, a dtype, and where it has been."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype

    def to(self, device: str, dtype: torch.dtype | None = None) -> Travelling:
        return Travelling(device, dtype or self.dtype)


class Elsewhere:
    """A module that refuses what is not on its device in its dtype, as torch does."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.weight = Travelling(device, dtype)

    def parameters(self) -> Any:
        return iter([self.weight])

    def __call__(self, rows: Travelling) -> tuple[Travelling, str]:
        assert (rows.device, rows.dtype) == (self.weight.device, self.weight.dtype)
        return Travelling(rows.device, rows.dtype), "router logits"


@pytest.mark.parametrize("rows", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_rows_travel_to_a_module_and_come_back(device: str, rows: torch.dtype) -> None:
    sent = Travelling("cuda:0", rows)
    back: Any = apply(Elsewhere(device, torch.bfloat16), sent)  # type: ignore[arg-type]
    assert (back.device, back.dtype) == ("cuda:0", rows)


def test_a_norm_of_half_precise_weights_norms_precise_rows_precisely() -> None:
    norm = torch.nn.LayerNorm(16).bfloat16()
    torch.nn.init.normal_(norm.weight)
    rows = torch.randn(5, 16)
    precise = torch.nn.functional.layer_norm(rows, (16,), norm.weight.float(), norm.bias.float(), norm.eps)
    torch.testing.assert_close(apply_norm(norm, rows), precise, rtol=0, atol=0)
    assert norm.weight.dtype is torch.bfloat16
    assert apply_norm(None, rows) is rows
