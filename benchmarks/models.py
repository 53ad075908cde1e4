"""Models to measure on: real shapes, random weights. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig, PretrainedConfig

from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.engine import Model

__all__ = ["SHAPES", "Shape", "gpt2", "make_model"]

WORDS = Path(__file__).parents[1] / "fixtures" / "checkpoints" / "healthy"

_GAIN = 1.4  # what a random matrix multiplies lengths by; with GPT-2's own 0.55 effects would drown in rounding


@dataclass(frozen=True)
class Shape:
    """A model's shape.

    Attributes:
        config: makes a configuration with so many layers.
        layers: as many as the model that it is named for has, and `quick_layers` in a quick run.
        prompts: in a batch, unless the caller says otherwise, and `quick_prompts` in a quick run.
    """

    config: Callable[[int], PretrainedConfig]
    layers: int
    quick_layers: int
    prompts: int
    quick_prompts: int


def gpt2(layers: int, heads: int = 12, width: int = 768, vocabulary: int = 50257, positions: int = 1024) -> GPT2Config:
    """A GPT-2."""
    return GPT2Config(
        n_layer=layers,
        n_head=heads,
        n_embd=width,
        vocab_size=vocabulary,
        n_positions=positions,
        initializer_range=_GAIN * width**-0.5,
        bos_token_id=0,
        eos_token_id=0,
    )


def _llama(layers: int) -> LlamaConfig:
    """Seven query heads to a key-value head, rotary positions, gated MLPs; with 24 layers 0.45 B parameters."""
    width = 896
    return LlamaConfig(
        vocab_size=49152,
        hidden_size=width,
        intermediate_size=5632,
        num_hidden_layers=layers,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=_GAIN * width**-0.5,
        bos_token_id=0,
        eos_token_id=0,
    )


SHAPES = {
    "gpt2-small": Shape(gpt2, layers=12, quick_layers=12, prompts=32, quick_prompts=2),
    "llama-0.5b": Shape(_llama, layers=24, quick_layers=6, prompts=2, quick_prompts=2),
    "tiny": Shape(lambda layers: gpt2(layers, 8, 32, 256), layers=12, quick_layers=6, prompts=4, quick_prompts=2),
}


def make_model(config: PretrainedConfig, folder: Path, device: str) -> Model:
    """A float32 model with seeded random weights, opened as an audit would open it.

    Its tokenizer is the embedded checkpoint's, whose words are among the first ids of any vocabulary.

    Args:
        folder: where the checkpoint is written.
    """
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words = AutoTokenizer.from_pretrained(str(WORDS), model_max_length=config.max_position_embeddings)
    words.save_pretrained(folder)
    return Model.of(open_checkpoint(find_checkpoints(str(folder))[0], Opening(device=device, dtype="float32")))
