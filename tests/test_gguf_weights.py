"""A GGUF file is read as the model that it contains: logits against the tensors of the file, looked up by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from checkpoint_files import ON_CPU, opened, refused
from gguf import GGMLQuantizationType as Kind
from gguf_files import CONFIGS, Array, logits_of, read_by_hand, with_words, write_gguf
from said import says
from tiny_models import random_model
from transformers import LlamaConfig

from circuit_assertions.checkpoints import Opening
from circuit_assertions.checkpoints.formats import read_weights
from circuit_assertions.checkpoints.function import settings_of
from circuit_assertions.checkpoints.quiet import quiet

TOKENS = torch.randint(0, 96, (2, 24), generator=torch.Generator().manual_seed(0))  # [prompts, positions]
EXACT = Opening(device="cpu", dtype="float64")
KINDS = (Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q5_1, Kind.Q5_0, Kind.Q4_1, Kind.Q4_0)
# Of a type that gguf cannot quantize to, where in a block its scale or scales are.
SCALES = {
    Kind.Q2_K: (80, 82),
    Kind.Q3_K: (108,),
    Kind.Q4_K: (0, 2),
    Kind.Q5_K: (0, 2),
    Kind.Q6_K: (208,),
    Kind.IQ4_XS: (0,),
}


def read(file: Path, opening: Opening = EXACT) -> Any:
    with quiet():
        return read_weights(file, opening)


def blocks(shape: tuple[int, ...], kind: Kind, seed: int) -> Array:
    """Random blocks of a type, with scales that give weights of ordinary size: bytes [rows, bytes of a row]."""
    block, width = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(seed).integers(0, 256, (shape[0] * shape[1] // block, width), np.uint8)
    for at in SCALES[kind]:
        raw[:, at : at + 2] = np.frombuffer(np.float16(2e-4).tobytes(), np.uint8)
    return raw.reshape(shape[0], -1)


@pytest.mark.family(main="architecture", whole=("llama",), turns=("kind",))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("architecture", CONFIGS)
def test_logits_are_those_of_the_stored_numbers(architecture: str, kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    config = write_gguf(file, architecture, kind=kind).config
    expected = logits_of(read_by_hand(file, architecture, config), TOKENS)
    found = read(file)
    assert torch.allclose(logits_of(found.model, TOKENS), expected, atol=1e-12)
    assert settings_of(config).differences(found.function) == []


@pytest.mark.parametrize("kind", SCALES, ids=lambda kind: kind.name)
def test_blocks_of_256_are_read_too(kind: Kind, tmp_path: Path) -> None:
    """The types that most files have, which gguf reads and does not write."""

    def change(metadata: dict[str, Any], tensors: dict[str, Array]) -> None:
        for seed, (name, weight) in enumerate(tensors.items()):
            if weight.ndim == 2:
                tensors[name] = blocks(weight.shape, kind, seed)

    config = LlamaConfig(
        vocab_size=96,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=None,
    )
    file = tmp_path / "model.gguf"
    write_gguf(file, model=random_model(config), kind=kind, change=change)
    expected = logits_of(read_by_hand(file, "llama", config), TOKENS)
    assert float(expected.std()) > 1e-3
    found = read(file)
    assert torch.allclose(logits_of(found.model, TOKENS), expected, atol=1e-12)
    assert says(found.notes[0], kind.name, "9 tensors")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_are_rounded_to_the_chosen_dtype_once(dtype: str, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    config = write_gguf(file, kind=Kind.Q8_0).config
    expected = read_by_hand(file, "llama", config).to(getattr(torch, dtype))
    found = read(file, Opening(device="cpu", dtype=dtype)).model
    assert found.dtype == getattr(torch, dtype)
    for name, parameter in expected.named_parameters():
        assert torch.equal(found.get_parameter(name), parameter), name


def test_what_was_read_is_an_ordinary_model_that_can_be_saved(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", kind=Kind.Q4_1)
    model = read(tmp_path / "model.gguf").model
    assert "quantization_config" not in model.config.to_dict()
    model.save_pretrained(tmp_path / "saved")
    again = type(model).from_pretrained(tmp_path / "saved", dtype=torch.float64, attn_implementation="eager")
    assert torch.equal(logits_of(again, TOKENS), logits_of(model, TOKENS))


def test_the_report_names_the_file_the_model_and_the_types(tmp_path: Path) -> None:
    write_gguf(
        tmp_path / "model.gguf", kind=Kind.Q4_1, change=lambda held, _: held.update({"general.name": "A\x1b[1m\nB"})
    )
    (note,) = read(tmp_path / "model.gguf").notes
    assert says(note, "model.gguf", "Q4_1 (16 tensors)", "F32 (5 tensors)", "de-quantized", "float64")
    assert note.isprintable()
    write_gguf(tmp_path / "plain.gguf")
    (note,) = read(tmp_path / "plain.gguf").notes
    assert says(note, "plain.gguf", "a llama", "F32 (21 tensors)")
    assert "de-quantized" not in note


# -- fingerprints -------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_of_the_stored_tensors_and_of_nothing_else(tmp_path: Path) -> None:
    first, second = tmp_path / "model.gguf", tmp_path / "elsewhere" / "other-name.gguf"
    second.parent.mkdir()
    write_gguf(first, kind=Kind.Q8_0)
    described = {"general.name": "another", "general.author": "someone", "tokenizer.chat_template": "{{ 1 }}"}
    write_gguf(second, kind=Kind.Q8_0, change=lambda metadata, _: metadata.update(described))
    assert first.read_bytes() != second.read_bytes()
    assert read(first).fingerprint == read(second, ON_CPU).fingerprint


def test_one_bit_of_a_weight_one_type_and_one_setting_change_the_fingerprint(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.gguf" for name in ("same", "bit", "type", "setting")}
    write_gguf(files["same"], kind=Kind.Q8_0)
    raw = bytearray(files["same"].read_bytes())
    raw[-5] ^= 1  # in the last tensor
    files["bit"].write_bytes(raw)
    write_gguf(files["type"], kind=Kind.Q5_0)
    epsilon = {"llama.attention.layer_norm_rms_epsilon": 1e-4}
    write_gguf(files["setting"], kind=Kind.Q8_0, change=lambda metadata, _: metadata.update(epsilon))
    prints = {name: read(file).fingerprint.split("-") for name, file in files.items()}
    assert len({weights for weights, _ in prints.values()}) == 3
    assert prints["setting"][0] == prints["same"][0]
    assert prints["setting"][1] != prints["same"][1]
    assert {prints[name][1] for name in ("same", "bit", "type")} == {prints["same"][1]}


# -- what is not whole --------------------------------------------------------------------------------------------


def test_missing_tensors_are_never_made_up(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", change=lambda _, tensors: tensors.pop("blk.1.ffn_up.weight"))
    assert says(
        refused(tmp_path / "model.gguf"), tmp_path / "model.gguf", "lacks 1", "model.layers.1.mlp.up_proj.weight"
    )


def test_a_tensor_that_transformers_passes_over_is_named(tmp_path: Path) -> None:
    bias = np.zeros(64, np.float32)
    write_gguf(tmp_path / "model.gguf", change=lambda _, tensors: tensors.update({"blk.0.attn_q.bias": bias}))
    assert says(refused(tmp_path / "model.gguf"), tmp_path / "model.gguf", "blk.0.attn_q.bias")


def test_blocks_beyond_the_stated_number_are_not_dropped(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", change=lambda metadata, _: metadata.update({"llama.block_count": 1}))
    assert says(refused(tmp_path / "model.gguf"), "blk.1.attn_q.weight")


def test_a_wrong_shape_is_named_with_both(tmp_path: Path) -> None:
    short = np.zeros((32, 64), np.float32)
    write_gguf(tmp_path / "model.gguf", change=lambda _, tensors: tensors.update({"blk.0.ffn_up.weight": short}))
    assert says(
        refused(tmp_path / "model.gguf"), "model.layers.0.mlp.up_proj.weight", (32, 64), (96, 64), "its metadata"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_found_and_named(value: float, tmp_path: Path) -> None:
    def change(metadata: dict[str, Any], tensors: dict[str, Array]) -> None:
        tensors["blk.1.ffn_up.weight"][3, 4] = value

    write_gguf(tmp_path / "model.gguf", change=change)
    assert says(refused(tmp_path / "model.gguf"), tmp_path / "model.gguf", "NaN", "model.layers.1.mlp.up_proj.weight")


def test_overflow_is_found_in_half_precision(tmp_path: Path) -> None:
    def change(metadata: dict[str, Any], tensors: dict[str, Array]) -> None:
        with_words(metadata, tensors)
        tensors["blk.1.ffn_up.weight"].fill(6e4)

    write_gguf(tmp_path / "model.gguf", change=change)
    assert says(refused(tmp_path / "model.gguf", Opening(device="cpu", dtype="float16")), "overflows")


@pytest.mark.parametrize("architecture", ["falcon", "qwen2"])
def test_an_unembedding_of_its_own_stays_one(architecture: str, tmp_path: Path) -> None:
    own = 0.2 * np.random.default_rng(0).standard_normal((96, 64)).astype(np.float32)
    file = tmp_path / "model.gguf"
    write_gguf(file, architecture, change=lambda _, tensors: tensors.update({"output.weight": own}))
    assert np.array_equal(read(file).model.lm_head.weight.detach().numpy(), own)


def test_the_bridge_computes_what_the_file_contains(tmp_path: Path) -> None:
    config = write_gguf(tmp_path / "model.gguf", kind=Kind.Q8_0, change=with_words).config
    with torch.no_grad():
        found = opened(tmp_path / "model.gguf", EXACT).bridge(TOKENS)
    assert torch.allclose(found, logits_of(read_by_hand(tmp_path / "model.gguf", "llama", config), TOKENS), atol=1e-9)
