"""Every setting that a GGUF file states is in the model, or the file is refused; none is a default of transformers."""

from __future__ import annotations

from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import refused
from gguf_files import CONFIGS, Array, logits_of, read_by_hand, write_gguf
from said import says
from test_gguf_weights import TOKENS, read
from tiny_models import random_model
from transformers import Gemma3TextConfig, LlamaConfig

from circuit_assertions.checkpoints.gguf.header import read_gguf_header
from circuit_assertions.checkpoints.gguf.settings import settings_in

LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA_3 |= {"original_max_position_embeddings": 8192}


def changed(config: Any, **changes: Any) -> Any:
    """A configuration with other settings."""
    return type(config).from_dict(config.to_dict() | changes)


def logits_with(file: Path, architecture: str, config: Any) -> torch.Tensor:
    return logits_of(read_by_hand(file, architecture, config), TOKENS)


SCALINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none": ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, {}),
    "linear": ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
    "linear, unnamed": ({"rope.scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
    "yarn": (
        {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    ),
    "yarn with ends": (
        {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32}
        | {"rope.scaling.yarn_beta_fast": 16.0, "rope.scaling.yarn_beta_slow": 2.0},
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
        },
    ),
}


def test_the_base_of_a_window_is_its_own(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, "gemma3", change=lambda metadata, _: metadata.update({"gemma3.rope.freq_base_swa": 500.0}))
    rotation = read(file).model.config.rope_parameters
    assert (rotation["sliding_attention"]["rope_theta"], rotation["full_attention"]["rope_theta"]) == (500, 1e6)


@pytest.mark.sample(7)
@pytest.mark.parametrize("how", SCALINGS)
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3"])
def test_scaled_frequencies_are_scaled(architecture: str, how: str, tmp_path: Path) -> None:
    stated, expected = SCALINGS[how]
    file = tmp_path / "model.gguf"
    named = {f"{architecture}.{key}": value for key, value in stated.items()}
    config = write_gguf(file, architecture, change=lambda metadata, _: metadata.update(named)).config
    rotation = config.rope_parameters
    if architecture == "gemma3":  # only what sees everything is scaled
        rotation = rotation | {"full_attention": rotation["full_attention"] | expected}
    else:
        rotation = rotation | expected
    wanted = logits_with(file, architecture, changed(config, rope_parameters=rotation))
    assert torch.allclose(logits_of(read(file).model, TOKENS), wanted, atol=1e-12)
    if expected:
        assert not torch.allclose(logits_with(file, architecture, config), wanted, atol=1e-3)


def factors_of_llama_3(head: int, base: float) -> Array:
    """What each frequency is divided by: 1 for short waves, 8 for long ones, and something between."""
    found = []
    for number in range(head // 2):
        wave = 2 * pi * base ** (2 * number / head)
        smooth = min(1.0, max(0.0, (8192 / wave - 1) / 3))
        found.append(1 / ((1 - smooth) / 8 + smooth))
    return np.array(found, np.float32)


def test_the_frequencies_of_llama_3_are_those_of_its_factors(tmp_path: Path) -> None:
    rope = {"rope_type": "default", "rope_theta": 5e5}
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 96}
    config = LlamaConfig(**shape, num_attention_heads=2, num_key_value_heads=1, rope_parameters=dict(rope))
    factors = factors_of_llama_3(32, 5e5)
    assert len({round(float(factor), 3) for factor in factors}) > 2
    file = tmp_path / "model.gguf"
    write_gguf(file, model=random_model(config), change=lambda _, held: held.update({"rope_freqs.weight": factors}))
    config = changed(config, rope_parameters=rope | LLAMA_3)
    found = read(file)
    assert torch.allclose(logits_of(found.model, TOKENS), logits_with(file, "llama", config), atol=1e-12)
    assert found.function.values["rope_parameters.factor"] == 8


def test_factors_of_one_change_nothing_and_others_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    ones = np.ones(8, np.float32)
    config = write_gguf(file, change=lambda _, tensors: tensors.update({"rope_freqs.weight": ones})).config
    assert torch.equal(logits_of(read(file).model, TOKENS), logits_with(file, "llama", config))
    write_gguf(file, change=lambda _, tensors: tensors.update({"rope_freqs.weight": ones * 3}))
    assert says(refused(file), file, "rope_freqs.weight")


UNREADABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "clamped attention": ("llama", {"attention.clamp_kqv": 8.0}),
    "scaled embedding": ("qwen2", {"embedding_scale": 12.0}),
    "scaled logits": ("llama", {"logit_scale": 0.25}),
    "capped logits": ("qwen3", {"attn_logit_softcapping": 30.0}),
    "scaled attention": ("gpt2", {"attention.scale": 0.1}),
    "alibi": ("falcon", {"attention.max_alibi_bias": 8.0}),
    "other sizes of values": ("starcoder2", {"attention.value_length": 8}),
    "both ways": ("llama", {"attention.causal": False}),
    "unknown scaling": ("llama", {"rope.scaling.type": "spiral", "rope.scaling.factor": 2.0}),
    "finer scaling": ("qwen2", {"rope.scaling.type": "linear", "rope.scaling.attn_factor": 1.2}),
    "yarn without a length": ("qwen2", {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}),
    "no base": ("llama", {"rope.freq_base": 0.0}),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_setting_that_cannot_be_read_is_never_left_out(what: str, tmp_path: Path) -> None:
    architecture, stated = UNREADABLE[what]
    file = tmp_path / "model.gguf"
    named = {f"{architecture}.{key}": value for key, value in stated.items()}
    write_gguf(file, architecture, change=lambda metadata, _: metadata.update(named))
    text = refused(file)
    assert says(text, file)
    assert any(word in text for word in (*stated, "causal", "frequencies"))


def test_long_rope_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    ones = np.ones(8, np.float32)
    write_gguf(file, "phi3", change=lambda _, tensors: tensors.update({"rope_factors_long.weight": ones}))
    assert says(refused(file), file, "rope_factors_long.weight")


def test_what_nothing_here_knows_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, change=lambda metadata, _: metadata.update({"llama.new_idea": 3, "llama.off": 0, "other.key": 1}))
    notes = " ".join(read(file).notes)
    assert says(notes, "llama.new_idea")
    assert "llama.off" not in notes
    assert "other.key" not in notes


def test_the_order_of_rows_is_not_guessed(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, change=lambda metadata, _: metadata.pop("llama.attention.head_count_kv"))
    assert says(refused(file), file, "llama.attention.head_count_kv")


def test_absent_settings_are_what_llama_cpp_takes(tmp_path: Path) -> None:
    """A base of 10,000, and the whole of a head rotated; the classes of transformers have others."""
    file = tmp_path / "model.gguf"
    absent = ("stablelm.rope.freq_base", "stablelm.rope.dimension_count")
    config = write_gguf(file, "stablelm", change=lambda metadata, _: [metadata.pop(key) for key in absent]).config
    rotation = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}
    wanted = logits_with(file, "stablelm", changed(config, rope_parameters=rotation))
    assert torch.allclose(logits_of(read(file).model, TOKENS), wanted, atol=1e-12)


@pytest.mark.parametrize(("layers", "scale"), [(2, 32), (62, 16)])
def test_the_scale_of_gemma_is_that_of_its_size(layers: int, scale: int, tmp_path: Path) -> None:
    """No key contains it: of the 27B models it is the width by the heads, of the others the size of a head."""
    small = {"hidden_size": 64, "intermediate_size": 32, "vocab_size": 96, "head_dim": 32, "pad_token_id": None}
    config = Gemma3TextConfig(**small, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=1)
    file = tmp_path / "model.gguf"
    write_gguf(file, "gemma3", model=random_model(config))
    assert settings_in(read_gguf_header(file)).config.query_pre_attn_scalar == scale


def test_settings_read_from_gguf_are_those_of_the_same_model_in_safetensors(tmp_path: Path) -> None:
    """So that a comparison of the two reports no difference."""
    model = random_model(CONFIGS["gpt2"]())
    model.save_pretrained(tmp_path / "folder")
    write_gguf(tmp_path / "model.gguf", "gpt2", model=model)
    one, other = read(tmp_path / "folder"), read(tmp_path / "model.gguf")
    assert one.function.differences(other.function) == []
    assert one.function.print == other.function.print
    assert one.weights != other.weights  # of other names, and partly of other shapes


@pytest.mark.parametrize("architecture", ["clip", "nonsense", "t5", "../../etc"])
def test_an_architecture_that_is_not_read_is_named(architecture: str, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, called=architecture)
    assert says(refused(file), file, architecture)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("block_count", 10**9),
        ("embedding_length", 4 * 10**9),
        ("feed_forward_length", 4 * 10**9),
        ("attention.head_count", 10**9),
        ("attention.key_length", 10**9),
        ("vocab_size", 4 * 10**9),
        ("attention.layer_norm_rms_epsilon", float("nan")),
    ],
)
@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_a_number_that_no_tensor_fills_is_refused_at_once(
    architecture: str, key: str, value: float, tmp_path: Path
) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, architecture, change=lambda metadata, _: metadata.update({f"{architecture}.{key}": value}))
    assert says(refused(file), file)
