"""Two random models of one configuration, for exchanging parts between them. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from patching_cases import CONFIGS, HEADS, LAYERS, TASK
from reference_model import word_tokenizer
from tiny_models import ARCHITECTURES, config_of, random_model
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    GPTBigCodeConfig,
    MptConfig,
    Phi3Config,
)

from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.engine import Model
from circuit_assertions.tasks import PromptSet

_BLOCKS = {"n_layer": LAYERS, "n_head": HEADS, "bos_token_id": 0, "eos_token_id": 0}
_SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def _falcon(size: int, **changes: Any) -> FalconConfig:
    return FalconConfig(**_SHAPE, vocab_size=size, **changes)


# One projection makes queries, keys and values, in every order that is known.
FUSED: dict[str, Callable[[int], Any]] = {
    "bloom": lambda size: BloomConfig(**_BLOCKS, vocab_size=size, hidden_size=32),
    "phi 3, grouped": lambda size: Phi3Config(
        **_SHAPE, vocab_size=size, intermediate_size=48, num_key_value_heads=2, pad_token_id=0
    ),
    "mpt": lambda size: MptConfig(
        vocab_size=size, d_model=32, n_layers=LAYERS, n_heads=HEADS, max_seq_len=64, expansion_ratio=2
    ),
    "starcoder, multi-query": lambda size: GPTBigCodeConfig(**_BLOCKS, vocab_size=size, n_embd=32, n_positions=64),
    "starcoder, multi-head": lambda size: GPTBigCodeConfig(
        **_BLOCKS, vocab_size=size, n_embd=32, n_positions=64, multi_query=False
    ),
    "falcon, grouped": lambda size: _falcon(size, new_decoder_architecture=True, num_kv_heads=2),
    "falcon, multi-head": lambda size: _falcon(size, new_decoder_architecture=False, multi_query=False),
}


def configuration(name: str) -> Any:
    """The configuration of this name, as large as the word tokenizer's vocabulary."""
    size = len(word_tokenizer())
    return config_of(name, size) if name in ARCHITECTURES else {**CONFIGS, **FUSED}[name](size)


class Two:
    """Two checkpoints of one configuration, whose weights have nothing in common."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folders = name, (folder / "broken", folder / "healthy")
        for seed, each in enumerate(self.folders):
            random_model(configuration(name), seed).save_pretrained(each)
            word_tokenizer().save_pretrained(each)

    @cached_property
    def models(self) -> tuple[Model, Model]:
        """Both in float64."""
        return opened(self.folders[0]), opened(self.folders[1])

    @cached_property
    def prompts(self) -> PromptSet:
        return TASK.build(self.models[0].source.tokenizer)

    def raw(self, number: int) -> Any:
        """One of the two as transformers opens it, in float64."""
        return AutoModelForCausalLM.from_pretrained(
            self.folders[number], dtype=torch.float64, attn_implementation="eager", experts_implementation="eager"
        ).eval()


def opened(folder: Path) -> Model:
    """A checkpoint in float64 on the CPU."""
    return Model.of(open_checkpoint(find_checkpoints(str(folder))[0], Opening(device="cpu", dtype="float64")))


@torch.no_grad()
def answers(model: Any, prompts: PromptSet) -> Tensor:
    """Logit differences at the last token by one plain forward pass [prompts]."""
    rows = prompts.prompts
    logits = model(torch.tensor([row.tokens for row in rows]), use_cache=False).logits[:, -1]
    index = torch.arange(len(rows))
    right, wrong = torch.tensor([row.right.token for row in rows]), torch.tensor([row.wrong.token for row in rows])
    difference: Tensor = logits[index, right] - logits[index, wrong]
    return difference
