"""GGUF files of random models, written as llama.cpp's converter writes them, and the same models read by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from numpy.typing import NDArray
from reference_model import word_tokenizer
from tiny_models import random_model
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    NemotronConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    StableLmConfig,
    Starcoder2Config,
)

Array = NDArray[Any]
Change = Callable[[dict[str, Any], dict[str, Array]], object]

_SHAPE = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
_ROPE = {"rope_type": "default", "rope_theta": 5e5}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "vocab_size": 96}

# By the name that GGUF has for an architecture: a small configuration, with no number that is its class's default.
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_SHAPE, rope_parameters=dict(_ROPE), rms_norm_eps=1e-5),
    "qwen2": lambda: Qwen2Config(**_SHAPE, rope_parameters=dict(_ROPE), rms_norm_eps=1e-5, tie_word_embeddings=True),
    "qwen3": lambda: Qwen3Config(**_SHAPE, rope_parameters=dict(_ROPE), head_dim=32, rms_norm_eps=1e-5),
    "gpt2": lambda: GPT2Config(
        **_IDS, n_embd=64, n_layer=2, n_head=4, n_positions=128, n_inner=96, layer_norm_epsilon=1e-4
    ),
    "gemma2": lambda: Gemma2Config(
        **_SHAPE, head_dim=32, sliding_window=8, query_pre_attn_scalar=32, final_logit_softcapping=20.0
    ),
    "gemma3": lambda: Gemma3TextConfig(  # of whose blocks the sixth sees everything
        **_SHAPE | {"num_hidden_layers": 6}, head_dim=32, sliding_window=8, query_pre_attn_scalar=32, rms_norm_eps=1e-5
    ),
    "phi3": lambda: Phi3Config(**_SHAPE, rope_parameters=dict(_ROPE), sliding_window=64),
    "starcoder2": lambda: Starcoder2Config(
        **_SHAPE, rope_parameters=dict(_ROPE), sliding_window=None, norm_epsilon=1e-4
    ),
    "stablelm": lambda: StableLmConfig(
        **_SHAPE,
        rope_parameters=dict(_ROPE),
        partial_rotary_factor=0.5,
        use_parallel_residual=False,
        layer_norm_eps=1e-4,
    ),
    "nemotron": lambda: NemotronConfig(
        **_SHAPE, rope_parameters=dict(_ROPE), partial_rotary_factor=0.5, norm_eps=1e-4, tie_word_embeddings=False
    ),
    "bloom": lambda: BloomConfig(**_IDS, hidden_size=64, n_layer=2, n_head=4, layer_norm_epsilon=1e-4),
    "falcon": lambda: FalconConfig(**_IDS, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=1),
    "qwen2moe": lambda: Qwen2MoeConfig(
        **_SHAPE, **_EXPERTS, rope_parameters=dict(_ROPE), shared_expert_intermediate_size=96, rms_norm_eps=1e-5
    ),
    "qwen3moe": lambda: Qwen3MoeConfig(
        **_SHAPE, **_EXPERTS, rope_parameters=dict(_ROPE), head_dim=32, norm_topk_prob=True, rms_norm_eps=1e-5
    ),
}

_RMS = ("llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "gemma2", "gemma3", "phi3")
_WITHOUT_ROTATION = ("gpt2", "bloom")


def settings_of(architecture: str, config: Any) -> dict[str, Any]:
    """The metadata of a configuration, without the architecture's name in front."""
    heads, width = config.num_attention_heads, config.hidden_size
    head = getattr(config, "head_dim", None) or width // heads
    epsilon = next(
        getattr(config, name)
        for name in ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps")
        if hasattr(config, name)
    )
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width
    found: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "context_length": getattr(config, "max_position_embeddings", 2048),
        "embedding_length": width,
        "feed_forward_length": inner,
        "attention.head_count": heads,
        f"attention.layer_norm_{'rms_' if architecture in _RMS else ''}epsilon": epsilon,
    }
    if architecture not in _WITHOUT_ROTATION:
        groups = getattr(config, "num_key_value_heads", None) or config.num_kv_heads
        rotation = config.rope_parameters.get("full_attention", config.rope_parameters)
        found |= {"attention.head_count_kv": groups, "rope.freq_base": float(rotation["rope_theta"])}
        found["rope.dimension_count"] = int(head * rotation.get("partial_rotary_factor", 1))
    if head != width // heads:
        found |= {"attention.key_length": head, "attention.value_length": head}
    further = {
        "attn_logit_softcapping": "attn_logit_softcapping",
        "final_logit_softcapping": "final_logit_softcapping",
        "attention.sliding_window": "sliding_window",
        "use_parallel_residual": "use_parallel_residual",
        "expert_count": "num_experts",
        "expert_used_count": "num_experts_per_tok",
        "expert_feed_forward_length": "moe_intermediate_size",
        "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    }
    values = {key: getattr(config, name, None) for key, name in further.items()}
    return found | {key: value for key, value in values.items() if value is not None}


# -- tensors ------------------------------------------------------------------------------------------------------


def _permuted(weight: Array, heads: int, *, back: bool = False) -> Array:
    """llama.cpp rotates neighbouring rows of queries and keys, transformers those half a head apart."""
    half = len(weight) // heads // 2
    parts = (heads, half, 2) if back else (heads, 2, half)
    return weight.reshape(*parts, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _grouped(weight: Array, heads: int, *, back: bool = False) -> Array:
    """Bloom keeps query, key and value of each head together, llama.cpp those of all heads."""
    parts = (3, heads) if back else (heads, 3)
    return weight.reshape(*parts, -1, *weight.shape[1:]).swapaxes(0, 1).reshape(weight.shape)


def by_hand(architecture: str, config: Any, name: str, weight: Array, *, back: bool = False) -> Array:
    """A tensor of transformers as GGUF stores it; with `back`, the other way round.

    Args:
        name: in GGUF.
    """
    if architecture == "llama" and re.search(r"attn_[qk]\.", name):
        groups = config.num_attention_heads if "attn_q" in name else config.num_key_value_heads
        return _permuted(weight, groups, back=back)
    if architecture == "bloom" and "attn_qkv" in name:
        return _grouped(weight, config.num_attention_heads, back=back)
    if architecture == "gpt2" and re.search(r"(attn_qkv|attn_output|ffn_up|ffn_down)\.weight", name):
        return weight.T
    if architecture in ("gemma2", "gemma3", "nemotron") and name.endswith("norm.weight"):
        return weight - 1 if back else weight + 1
    if architecture == "qwen2moe" and "ffn_gate_inp_shexp" in name:
        return weight.reshape(1, -1) if back else weight.reshape(-1)
    return weight


def _named(architecture: str, config: Any) -> Callable[[str], str]:
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(numbers[architecture], config.num_hidden_layers)

    def named(name: str) -> str:
        plain = name.removesuffix(".weight").removesuffix(".bias")
        found = names.get_name(plain.removeprefix("transformer.") if architecture == "bloom" else plain)
        assert found is not None, name
        return found + name[name.rindex(".") :]

    return named


def tensors_of(architecture: str, model: Any) -> dict[str, Array]:
    """All tensors of a model by their names in GGUF, in float32 and as GGUF stores them."""
    config = model.config
    named = _named(architecture, config)
    found: dict[str, Array] = {}
    for name, parameter in model.named_parameters():
        weight = parameter.detach().float().numpy()
        block = re.search(r"layers\.(\d+)\.mlp\.experts\.(gate_up_proj|down_proj)", name)
        if block and block[2] == "gate_up_proj":  # [experts, 2 * inner, d_model]
            gate, up = np.split(weight, 2, axis=1)
            found |= {f"blk.{block[1]}.ffn_gate_exps.weight": gate, f"blk.{block[1]}.ffn_up_exps.weight": up}
        elif block:
            found[f"blk.{block[1]}.ffn_down_exps.weight"] = weight
        else:
            called = named(name)
            found[called] = by_hand(architecture, config, called, weight)
    return {name: np.ascontiguousarray(weight) for name, weight in found.items()}


def write_gguf(
    file: Path,
    architecture: str = "llama",
    *,
    model: Any = None,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    called: str | None = None,
    change: Change = lambda metadata, tensors: None,
) -> Any:
    """Write a random model, matrices in the type `kind` and vectors in F32, and return it.

    Args:
        called: what the file says of its architecture, where that is not so.
        change: of the metadata and of the tensors, in place, before they are written.
    """
    model = random_model(CONFIGS[architecture]()) if model is None else model
    settings = settings_of(architecture, model.config)
    metadata = {"general.name": f"a {architecture}", **{f"{architecture}.{key}": one for key, one in settings.items()}}
    tensors = tensors_of(architecture, model)
    change(metadata, tensors)
    writer = gguf.GGUFWriter(file, called or architecture)
    for key, value in metadata.items():
        _add(writer, key, value)
    for name, weight in tensors.items():
        if weight.dtype == np.uint8:  # blocks that a test made itself
            writer.add_tensor(name, weight, raw_dtype=kind)
            continue
        stored = kind if weight.ndim > 1 and weight.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 else _F32
        writer.add_tensor(name, gguf.quantize(weight, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


_F32 = GGMLQuantizationType.F32


def with_words(metadata: dict[str, Any], tensors: dict[str, Array]) -> None:
    """The reference model's tokenizer, whole, as some writers store it."""
    metadata["tokenizer.huggingface.json"] = word_tokenizer().backend_tokenizer.to_str()


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if key == "general.alignment":
        writer.add_custom_alignment(value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


# -- a slow, obvious reader ---------------------------------------------------------------------------------------


def stored_in(file: Path) -> dict[str, Array]:
    """All tensors of a file, de-quantized by the package gguf, in float32."""
    return {one.name: gguf.dequantize(one.data, one.tensor_type) for one in gguf.GGUFReader(file).tensors}


def read_by_hand(file: Path, architecture: str, config: Any) -> Any:
    """A model of this configuration in float64 with the tensors of a file, each looked up by its name."""
    config._experts_implementation = "eager"  # the grouped product has no float64
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()
    named, stored = _named(architecture, config), stored_in(file)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            block = re.search(r"layers\.(\d+)\.mlp\.experts\.(gate_up_proj|down_proj)", name)
            if block:
                parts = ("gate", "up") if block[2] == "gate_up_proj" else ("down",)
                weight = np.concatenate([stored[f"blk.{block[1]}.ffn_{part}_exps.weight"] for part in parts], axis=1)
            else:
                weight = by_hand(architecture, config, named(name), stored[named(name)], back=True)
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float64)))
    return model


def logits_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """[prompts, positions, d_vocab]"""
    with torch.no_grad():
        logits: torch.Tensor = model(tokens, use_cache=False).logits
    return logits
