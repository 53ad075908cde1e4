"""Grafts in memory: the same as the checkpoint with other weights, and nothing is left behind."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from checkpoint_files import opened as opened_with
from grafting_cases import Two, answers, opened
from naive_patching import exact_softmax
from patching_cases import LAYERS
from reference_model import word_tokenizer
from tiny_models import ARCHITECTURES, save_tiny
from torch import Tensor

from circuit_assertions.checkpoints import Opening
from circuit_assertions.checkpoints.parts import parts_of as raw_parts_of
from circuit_assertions.components import Embedding, Mlp, Norms, Part
from circuit_assertions.engine import MeasuringError, Model
from circuit_assertions.engine.grafting import Grafting
from circuit_assertions.engine.parts import parts_of
from circuit_assertions.engine.recognition import NotRecognisedError
from circuit_assertions.heads import Head

SETS: tuple[tuple[Part, ...], ...] = (
    (Head(1, 2),),
    (Head(0, 0), Head(2, 1)),
    (Mlp(2),),
    (Norms(LAYERS),),
    (Norms(1), Mlp(0), Head(2, 3)),
    (Embedding(), Head(1, 0)),
)
OTHERS = (
    "gpt-j, parallel with one norm",
    "falcon, multi-query",
    "falcon, attention biased by distance",
    "mixtral, mixture of experts",
    "olmo 2, post-norm alone",
    "bloom",
    "phi 3, grouped",
)
# Their RMSNorm rounds to float32 whatever the model's dtype, and what differs in the last bit may round to either side.
_BOUND = dict.fromkeys(("llama", "qwen3", "gemma2", *OTHERS), 1e-6)


family = pytest.mark.family(main="two", whole=("gpt2", "bloom"), turns=("parts",))


@pytest.fixture(scope="module", params=[*ARCHITECTURES, *OTHERS])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Two:
    return Two(request.param, tmp_path_factory.mktemp("models"))


def grafting(two: Two) -> Grafting:
    return Grafting(*two.models, two.prompts)


def state(model: Model) -> Mapping[str, str]:
    """Every weight's bits."""
    weights = model.bridge.state_dict()
    return {
        name: hashlib.sha256(weight.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, weight in weights.items()
    }


@family
def test_parts_hold_as_many_weights_as_they_do_in_the_checkpoint(two: Two) -> None:
    expected = raw_parts_of(two.raw(0)).weights
    found = parts_of(two.models[0].layout)
    assert list(found) == sorted(expected, key=list(found).index)
    for part, weights in found.items():
        assert sum(weight.numel() for weight in weights) == sum(weight.numel() for weight in expected[part]), part


@family
def test_all_parts_are_the_other_model(two: Two) -> None:
    with exact_softmax():
        together = grafting(two)
        assert together.changed == together.parts
        got = together.difference(together.parts)
        expected = answers(two.raw(1), two.prompts)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


@family
@pytest.mark.parametrize("parts", SETS, ids=lambda parts: ",".join(map(str, parts)))
def test_a_set_is_the_same_set_exchanged_in_the_checkpoint(two: Two, parts: tuple[Part, ...]) -> None:
    exchanged, given = two.raw(0), raw_parts_of(two.raw(1)).weights
    for part, weights in raw_parts_of(exchanged).weights.items():
        if part in parts:
            for own, other in zip(weights, given[part], strict=True):
                own.copy_(other)
    with exact_softmax():
        together = grafting(two)
        got, before = together.difference(parts), together.difference()
        expected = answers(exchanged, two.prompts)
    assert float((expected - before).abs().max()) > 1e-3
    torch.testing.assert_close(got, expected, rtol=0, atol=_BOUND.get(two.name, 1e-10))


@family
def test_nothing_is_left_behind(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [state(model) for model in two.models]
    together = grafting(two)
    own = together.difference()
    for parts in (*SETS, together.parts):
        together.difference(parts)
    assert torch.equal(together.difference(), own)

    def fail(*_: object) -> Tensor:
        assert state(together.into) != before[0]
        raise MemoryError

    monkeypatch.setattr(Grafting, "_answers", fail)
    with pytest.raises(MemoryError):
        together.difference(together.parts)
    assert [state(model) for model in two.models] == before


@family
def test_what_was_planted_is_what_has_changed_and_heals(two: Two, tmp_path: Path) -> None:
    planted: tuple[Part, ...] = (Head(0, 1), Mlp(0), Head(1, 0), Norms(2))
    damaged = two.raw(0)
    for part in planted:
        raw_parts_of(damaged).weights[part][-1].mul_(1.5)
    damaged.save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    with exact_softmax():
        together = Grafting(opened(tmp_path), two.models[0], two.prompts)
        assert together.changed == planted
        healthy = grafting(two).difference()
        assert not torch.allclose(together.difference(planted[1:]), healthy, rtol=0, atol=1e-4)
        torch.testing.assert_close(together.difference(planted), healthy, rtol=0, atol=_BOUND.get(two.name, 1e-10))


@family
def test_a_model_has_nothing_of_itself_to_give(two: Two) -> None:
    itself = Grafting(two.models[0], two.models[0], two.prompts)
    assert itself.changed == ()
    assert torch.equal(itself.difference(itself.parts), itself.difference())


@family
def test_what_is_not_recognised_is_run_whole(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotRecognisedError("its blocks were drawn by hand")

    with exact_softmax():
        expected = [grafting(two).difference(parts) for parts in SETS]
        monkeypatch.setattr("circuit_assertions.engine.grafting.recognise", refuse)
        whole = grafting(two)
        for parts, one in zip(SETS, expected, strict=True):
            torch.testing.assert_close(whole.difference(parts), one, rtol=0, atol=_BOUND.get(two.name, 1e-10))


def test_half_precision_adds_no_noise_of_its_own(tmp_path: Path) -> None:
    two = Two("llama", tmp_path)
    halves = [Model.of(opened_with(folder, Opening(device="cpu", dtype="bfloat16"))) for folder in two.folders]
    together = Grafting(halves[0], halves[1], two.prompts)
    own = together.difference()
    # One weight, moved by one bit of bfloat16: an effect far below the rounding of a residual stream.
    weight = parts_of(halves[0].layout)[Mlp(2)][-1]
    before = weight.clone()
    weight.view(-1)[0] *= 1.01
    nudged = Grafting(halves[0], together.source, two.prompts)
    assert 0 < float((nudged.difference() - own).abs().max()) < 1e-2
    weight.copy_(before)


def test_models_of_other_shapes_do_not_fit(tmp_path: Path) -> None:
    two = Two("gpt2", tmp_path)
    deeper = opened(save_tiny(tmp_path / "deeper", n_layer=4))
    wider = opened(save_tiny(tmp_path / "wider", n_inner=64))
    for other, part in ((deeper, "L3H0|NORM3"), (wider, "MLP0")):
        with pytest.raises(MeasuringError, match=rf"\bbroken\b.*\b({part})\b.*\bshapes\b"):
            Grafting(two.models[0], other, two.prompts)
