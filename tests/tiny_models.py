"""Tiny random models of every block shape that is claimed, saved as checkpoints. Nothing is downloaded.

Weights are drawn large (standard deviation 0.2, norms and biases moved off their neutral values), so that attention is
far from uniform, norms matter, and a wrong formula shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from reference_model import word_tokenizer
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    Qwen3Config,
)

ARCHITECTURES = ("gpt2", "llama", "qwen3", "gemma2", "gpt-neox", "opt")


def config_of(architecture: str, vocabulary: int, **changes: Any) -> PretrainedConfig:
    """A three-layer configuration: learned positions, rotary, grouped queries, query-key norm, post-norm, parallel."""
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    gpt2 = {"vocab_size": vocabulary, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
    makers: Mapping[str, Any] = {
        "gpt2": lambda: GPT2Config(**(gpt2 | {"bos_token_id": 0, "eos_token_id": 0} | changes)),
        "llama": lambda: LlamaConfig(**(shape | {"num_key_value_heads": 2} | changes)),
        "qwen3": lambda: Qwen3Config(**(shape | {"num_key_value_heads": 2, "head_dim": 8} | changes)),
        "gemma2": lambda: Gemma2Config(
            **(shape | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8} | changes)
        ),
        "gpt-neox": lambda: GPTNeoXConfig(**(shape | changes)),
        "opt": lambda: OPTConfig(
            **(
                {key: value for key, value in shape.items() if key != "intermediate_size"}
                | {"ffn_dim": 48, "word_embed_proj_dim": 32}
                | changes
            )
        ),
    }
    config: PretrainedConfig = makers[architecture]()
    return config


def random_model(config: PretrainedConfig, seed: int = 0) -> Any:
    """A model of this configuration in evaluation mode, float32, with weights that make every part of it matter."""
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.2 * noise if parameter.dim() > 1 else parameter + 0.1 * noise)
    return model


def save_tiny(
    folder: Path, architecture: str = "gpt2", *, seed: int = 0, tokenizer: bool = True, **changes: Any
) -> Path:
    """Save a random checkpoint of this architecture, with the reference model's word-level tokenizer."""
    words = word_tokenizer()
    random_model(config_of(architecture, len(words), **changes), seed).save_pretrained(folder)
    if tokenizer:
        words.save_pretrained(folder)
    return folder
