"""Models to measure on: real shapes, random weights. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.engine import Model

__all__ = ["SHAPES", "make_model"]

SHAPES = {
    "gpt2-small": lambda vocabulary: GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary)),
    "llama-0.5b": lambda vocabulary: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
        )
    ),
}


def make_model(shape: str, tokenizer: Path, folder: Path, device: str, dtype: str = "float32") -> Model:
    """A model of this shape with seeded random weights, opened as an audit would open it.

    Args:
        tokenizer: a folder with a tokenizer; its vocabulary decides the model's.
        folder: where the checkpoint is written.
    """
    torch.manual_seed(0)
    words = AutoTokenizer.from_pretrained(str(tokenizer))
    SHAPES[shape](len(words)).save_pretrained(folder)
    words.save_pretrained(folder)
    return Model.of(open_checkpoint(find_checkpoints(str(folder))[0], Opening(device=device, dtype=dtype)))
