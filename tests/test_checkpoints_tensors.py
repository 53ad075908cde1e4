"""Every stored tensor is read, known to be left aside, or named in an error; spoilt numbers are refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import ON_CPU, WEIGHTS, change_json, change_tensors, copy_of, opened, refused
from reference_model import word_tokenizer
from safetensors.torch import load_file, save_file
from said import says
from tiny_models import config_of, random_model, save_tiny
from torch import Tensor
from transformers import AutoModelForCausalLM, CodeGenConfig, GPTJConfig, GPTNeoConfig

from circuit_assertions.checkpoints import CheckpointError, Opening
from circuit_assertions.checkpoints.reading import read_model

MLP = "transformer.h.1.mlp.c_fc.weight"
VOCABULARY = len(word_tokenizer())
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("healthy") / "gpt2")


@pytest.fixture
def model(healthy: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return copy_of(healthy, tmp_path / "model")


# -- what is left aside -------------------------------------------------------------------------------------------


def _mask(size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(size, size).tril().view(1, 1, size, size).to(dtype)


def _with_masks(model_type: str, dtype: torch.dtype) -> Tensors:
    names = {
        "gpt2": ("transformer.h.{}.attn.bias", "transformer.h.{}.attn.masked_bias"),
        "gpt_neo": ("transformer.h.{}.attn.attention.bias", "transformer.h.{}.attn.attention.masked_bias"),
        "gptj": ("transformer.h.{}.attn.bias", "transformer.h.{}.attn.masked_bias"),
        "codegen": ("transformer.h.{}.attn.causal_mask", "transformer.h.{}.attn.masked_bias"),
        "gpt_neox": ("gpt_neox.layers.{}.attention.bias", "gpt_neox.layers.{}.attention.masked_bias"),
    }[model_type]
    mask, low = names
    return {
        name.format(layer): tensor.clone()
        for layer in range(2)
        for name, tensor in ((mask, _mask(64, dtype)), (low, torch.tensor(-1e9)))
    }


def _small(model_type: str) -> Any:
    gptj = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4}
    makers: dict[str, Callable[[], Any]] = {
        "gpt2": lambda: config_of("gpt2", VOCABULARY, n_layer=2),
        "gptj": lambda: GPTJConfig(**gptj),
        "codegen": lambda: CodeGenConfig(**gptj | {"n_head": 4, "n_ctx": 64}),
        "gpt_neox": lambda: config_of("gpt-neox", VOCABULARY, num_hidden_layers=2),
        "gpt_neo": lambda: GPTNeoConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            max_position_embeddings=64,
            attention_types=[[["global", "local"], 1]],
        ),
    }
    return makers[model_type]()


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bool])
@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neo", "gptj", "codegen", "gpt_neox"])
def test_masks_that_older_versions_stored_are_left_aside(model_type: str, dtype: torch.dtype, tmp_path: Path) -> None:
    random_model(_small(model_type)).save_pretrained(tmp_path / "plain")
    # Of another file: an open model may be mapped to the one that it was read from.
    change_tensors(
        copy_of(tmp_path / "plain", tmp_path / "masked") / WEIGHTS,
        lambda tensors: tensors.update(_with_masks(model_type, dtype)),
    )
    plain, masked = (read_model(tmp_path / name, ON_CPU) for name in ("plain", "masked"))
    assert (masked.fingerprint, masked.notes) == (plain.fingerprint, ())
    for (name, one), other in zip(plain.model.named_parameters(), masked.model.parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("gpt-neox", "gpt_neox.layers.1.attention.rotary_emb.inv_freq"),
        ("llama", "model.layers.1.self_attn.rotary_emb.cos_cached"),
    ],
)
def test_rotary_buffers_that_older_versions_stored_are_left_aside(architecture: str, name: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, architecture)
    expected = opened(folder).fingerprint
    change_tensors(folder / WEIGHTS, lambda tensors: tensors.update({name: torch.rand(4)}))
    assert opened(folder).fingerprint == expected


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("v_head.summary.weight", torch.ones(1, 32)),
        ("lm_head.bias", torch.ones(VOCABULARY)),
        ("transformer.extra_norm.weight", torch.ones(32)),
        ("score.weight", torch.ones(2, 32)),
        ("transformer.h.1.mlp.gate.weight", torch.ones(3)),
        ("adapter", torch.ones(1)),
    ],
)
def test_any_other_tensor_that_would_not_be_read_is_named(model: Path, name: str, tensor: Tensor) -> None:
    change_tensors(model / WEIGHTS, lambda tensors: tensors.update({name: tensor}))
    assert f"{name} among them" in refused(model)


@pytest.mark.parametrize("tensor", [torch.ones(96), torch.ones(1, 1, 64, 64), torch.ones(1, 2, 64, 64).tril()])
def test_the_name_of_a_mask_makes_no_mask(tensor: Tensor, tmp_path: Path) -> None:
    random_model(_small("gptj")).save_pretrained(tmp_path)
    name = "transformer.h.1.attn.bias"
    change_tensors(tmp_path / WEIGHTS, lambda tensors: tensors.update({name: tensor.clone()}))
    with pytest.raises(CheckpointError, match=f"{name} among them"):
        read_model(tmp_path, ON_CPU)


def test_a_head_that_differs_from_its_embedding_is_read_untied_and_told(healthy: Path, model: Path) -> None:
    head = torch.randn(VOCABULARY, 32)
    change_tensors(model / WEIGHTS, lambda tensors: tensors.update({"lm_head.weight": head}))
    source = opened(model)
    assert says(source.notes[0], "config.json", "embedding and unembedding", "differ")
    assert not torch.allclose(source.bridge(torch.tensor([[1, 2]])), opened(healthy).bridge(torch.tensor([[1, 2]])))


# -- one tensor twice ---------------------------------------------------------------------------------------------


def _sharded(healthy: Path, folder: Path) -> list[Path]:
    AutoModelForCausalLM.from_pretrained(healthy).save_pretrained(folder, max_shard_size="50KB")
    word_tokenizer().save_pretrained(folder)
    return sorted(folder.glob("model-*.safetensors"))


def test_two_shards_that_differ_in_one_tensor_are_both_named(healthy: Path, tmp_path: Path) -> None:
    first, second, *_ = _sharded(healthy, tmp_path)
    name, tensor = next(iter(load_file(first).items()))
    change_tensors(second, lambda tensors: tensors.update({name: tensor}))
    assert opened(tmp_path).fingerprint == opened(healthy).fingerprint  # the same twice does no harm
    change_tensors(second, lambda tensors: tensors.update({name: tensor + 1}))
    text = refused(tmp_path)
    assert name in text
    assert str(first) in text
    assert str(second) in text


@pytest.mark.parametrize("other", ["_orig_mod.{}", "module.{}", "base_model.model.{}", "{body}"])
def test_two_names_of_one_tensor_are_two_copies_of_it(model: Path, other: str) -> None:
    name = other.format(MLP, body=MLP.removeprefix("transformer."))
    change_tensors(model / WEIGHTS, lambda tensors: tensors.update({name: tensors[MLP].clone()}))
    opened(model)
    change_tensors(model / WEIGHTS, lambda tensors: tensors.update({name: tensors[MLP] + 1}))
    assert says(refused(model), model, "different values", MLP)


def test_an_index_that_names_the_wrong_shard_is_refused(healthy: Path, tmp_path: Path) -> None:
    first, second, *_ = _sharded(healthy, tmp_path)
    name = next(iter(load_file(first)))
    index = tmp_path / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    change_json(index, weight_map=weight_map | {name: second.name})
    assert says(refused(tmp_path), index, name, second.name, first.name)
    change_json(index, weight_map=weight_map | {"not.there": second.name})
    assert says(refused(tmp_path), index, "not.there", second.name)


# -- quantized, whole numbers, zeros, overflow --------------------------------------------------------------------

PACKED = torch.ones(8, 4, dtype=torch.int32)
BYTES = torch.ones(8, 4, dtype=torch.uint8)
BASE = MLP.removesuffix(".weight")


@pytest.mark.parametrize(
    ("tensors", "method"),
    [
        ({f"{BASE}.qweight": PACKED, f"{BASE}.qzeros": PACKED, f"{BASE}.g_idx": PACKED}, "GPTQ"),
        ({f"{BASE}.qweight": PACKED, f"{BASE}.qzeros": PACKED, f"{BASE}.scales": torch.ones(2)}, "AWQ"),
        ({MLP: torch.ones(8, 4, dtype=torch.int8), f"{BASE}.SCB": torch.ones(8)}, "bitsandbytes"),
        ({MLP: BYTES, f"{MLP}.absmax": torch.ones(8), f"{MLP}.quant_map": torch.ones(16)}, "bitsandbytes"),
        ({MLP: BYTES, f"{MLP}.quant_state.bitsandbytes__nf4": BYTES}, "bitsandbytes"),
        ({MLP: torch.ones(32, 128).to(torch.float8_e4m3fn), f"{BASE}.weight_scale": torch.ones(1)}, "FP8"),
        ({MLP: torch.ones(32, 128).to(torch.float8_e5m2)}, "FP8"),
        ({f"{BASE}.weight_packed": PACKED, f"{BASE}.weight_scale": torch.ones(8)}, "compressed-tensors"),
        ({MLP: torch.ones(32, 128, dtype=torch.int8), f"{BASE}.weight_scale": torch.ones(8)}, "compressed-tensors"),
        ({f"{BASE}_blocks": BYTES, f"{BASE}_scales": BYTES}, "MXFP4"),
    ],
)
def test_quantized_tensors_are_refused_by_method_though_no_config_says_so(
    model: Path, tensors: Tensors, method: str
) -> None:
    def change(held: Tensors) -> None:
        held.pop(MLP)
        held.update({name: tensor.clone() for name, tensor in tensors.items()})

    change_tensors(model / WEIGHTS, change)
    text = refused(model)
    assert says(text, model, "quantized")
    assert f"({method}" in text


@pytest.mark.parametrize(
    ("said", "method"),
    [
        ({"quant_method": "gptq", "bits": 4}, "GPTQ"),
        ({"quant_method": "awq"}, "AWQ"),
        ({"quant_method": "fp8"}, "FP8"),
        ({"quant_method": "mxfp4"}, "MXFP4"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"quant_method": "tomorrows"}, "tomorrows"),
        ({"bits": 3}, "by quantization_config in config.json"),
    ],
)
def test_a_quantization_config_is_refused_by_its_method(model: Path, said: dict[str, Any], method: str) -> None:
    change_json(model / "config.json", quantization_config=said)
    assert f"holds quantized weights ({method})" in refused(model)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("name", [MLP, "transformer.wte.weight", "transformer.ln_f.bias"])
def test_a_weight_of_whole_numbers_is_named(model: Path, dtype: torch.dtype, name: str) -> None:
    change_tensors(model / WEIGHTS, lambda tensors: tensors.update({name: tensors[name].round().to(dtype)}))
    assert f"{name} as " in refused(model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_type_of_floating_point_is_read(model: Path, dtype: torch.dtype) -> None:
    change_tensors(
        model / WEIGHTS, lambda tensors: tensors.update({name: one.to(dtype) for name, one in tensors.items()})
    )
    assert opened(model).notes == ()


@pytest.mark.parametrize("names", [[MLP], ["transformer.wpe.weight"], [MLP, "transformer.h.0.attn.c_proj.weight"]])
def test_matrices_of_zeros_are_named_and_not_refused(model: Path, names: list[str]) -> None:
    change_tensors(model / WEIGHTS, lambda tensors: [tensors[name].zero_() for name in names])
    (note,) = opened(model).notes
    assert any(name in note for name in names)
    assert "all zeros" in note


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        (MLP, "transformer.h.1.mlp"),
        ("transformer.h.2.attn.c_attn.weight", "transformer.h.2.attn"),
        ("transformer.h.0.mlp.c_proj.weight", "transformer.h.0.mlp.c_proj"),
        ("transformer.ln_f.weight", "transformer.ln_f"),
    ],
)
def test_a_forward_pass_that_overflows_names_its_layer(model: Path, name: str, layer: str) -> None:
    change_tensors(model / WEIGHTS, lambda tensors: tensors[name].fill_(3e38))
    text = refused(model)
    assert f"overflows: {layer}" in text
    assert not says(text, "later tokens")


@pytest.mark.parametrize(("name", "value"), [(MLP, 6e4), (MLP, 1e6), ("transformer.h.1.ln_1.bias", 1e9)])
def test_weights_that_fit_in_float32_alone_say_so_in_float16(model: Path, name: str, value: float) -> None:
    change_tensors(model / WEIGHTS, lambda tensors: tensors[name].fill_(value))
    opened(model)
    text = refused(model, Opening(device="cpu", dtype="float16"))
    assert "overflows: " in text or f"numbers in {name} that are" in text
    assert "--model-dtype=float32" in text


def test_a_weight_file_of_another_model_is_refused_in_one_sentence(model: Path) -> None:
    save_file({"a.0.b": torch.ones(3), "c": torch.ones(2, 2)}, model / WEIGHTS)
    assert "lacks" in refused(model)
