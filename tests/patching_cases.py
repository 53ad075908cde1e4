"""Random models of many block shapes, patched by the project in both of its ways and by `naive_patching`."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from naive_patching import NaivePatching, Sender, exact_softmax
from reference_model import word_tokenizer
from tiny_models import ARCHITECTURES, config_of, random_model
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma3TextConfig,
    GPTJConfig,
    GPTNeoConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    OlmoConfig,
    PhiConfig,
)

from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.components import Mlp
from circuit_assertions.engine import Model
from circuit_assertions.engine.hooked import HookedPatching
from circuit_assertions.engine.patching import Patching
from circuit_assertions.engine.rows import Sender as FastSender
from circuit_assertions.heads import Head
from circuit_assertions.tasks import IoiTask, PromptSet

LAYERS, HEADS = 3, 4
TASK = IoiTask.model_validate(
    {
        "kind": "ioi",
        "prompts": 4,
        "templates": ["Then, {first} and {second} went to the {place}. {subject} gave a {object} to"],
    }
)
SENDERS: tuple[FastSender, ...] = (
    *(Head(layer, head) for layer in range(LAYERS) for head in range(HEADS)),
    *(Mlp(layer) for layer in range(LAYERS)),
)
_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def _falcon(size: int, *, alibi: bool, parallel_attn: bool) -> FalconConfig:
    return FalconConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        multi_query=True,
        alibi=alibi,
        parallel_attn=parallel_attn,
        new_decoder_architecture=False,
        bos_token_id=0,
        eos_token_id=0,
    )


def _olmo(size: int, *, clamp: float) -> OlmoConfig:
    return OlmoConfig(**_SHAPE, vocab_size=size, num_key_value_heads=2, clip_qkv=clamp)


CLAMPED_LATER = "olmo, clamped from the third prompt on"
FURTHER: dict[str, Callable[[int], Any]] = {
    "gpt-j, parallel with one norm": lambda size: GPTJConfig(
        vocab_size=size, n_embd=32, n_layer=3, n_head=4, n_positions=64, rotary_dim=4, bos_token_id=0, eos_token_id=0
    ),
    "gemma 3, post-norm and query-key norm": lambda size: Gemma3TextConfig(
        **_SHAPE, vocab_size=size, num_key_value_heads=2, head_dim=8, sliding_window=8
    ),
    "phi, parallel with partial rotation": lambda size: PhiConfig(**_SHAPE, vocab_size=size),
    "falcon, multi-query": lambda size: _falcon(size, alibi=False, parallel_attn=True),
    "mistral, sliding window": lambda size: MistralConfig(
        **_SHAPE, vocab_size=size, num_key_value_heads=1, sliding_window=6
    ),
    "mixtral, mixture of experts": lambda size: MixtralConfig(
        **_SHAPE, vocab_size=size, num_key_value_heads=2, num_local_experts=4
    ),
    "olmo, clamped attention": lambda size: _olmo(size, clamp=1.5),
    CLAMPED_LATER: lambda size: _olmo(size, clamp=4.0),
    "olmo 2, post-norm alone": lambda size: Olmo2Config(**_SHAPE, vocab_size=size, num_key_value_heads=2),
    "gpt-neo, unscaled local attention": lambda size: GPTNeoConfig(
        vocab_size=size,
        hidden_size=32,
        num_layers=3,
        num_heads=4,
        attention_types=[[["global", "local", "global"], 1]],
        window_size=8,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
    ),
}
NOT_RECOGNISED: dict[str, Callable[[int], Any]] = {
    "falcon, attention biased by distance": lambda size: _falcon(size, alibi=True, parallel_attn=False),
}
CONFIGS: dict[str, Callable[[int], Any]] = {**FURTHER, **NOT_RECOGNISED}


class Both:
    """One random model, patched fast and patched slowly."""

    def __init__(self, name: str, folder: Path, configs: Mapping[str, Callable[[int], Any]] = CONFIGS) -> None:
        self.name, self.folder = name, folder
        words = word_tokenizer()
        config = config_of(name, len(words)) if name in ARCHITECTURES else configs[name](len(words))
        random_model(config).save_pretrained(folder)
        words.save_pretrained(folder)
        source = open_checkpoint(find_checkpoints(str(folder))[0], Opening(device="cpu", dtype="float64"))
        self.model = Model.of(source)
        self.prompts: PromptSet = TASK.build(source.tokenizer)

    @cached_property
    def fast(self) -> Patching:
        """By arithmetic."""
        with exact_softmax():
            return Patching.of(self.model, self.prompts.prompts)

    @cached_property
    def hooked(self) -> HookedPatching:
        """With hooks, on the same two runs."""
        return HookedPatching(self.model, self.fast.prompts, self.fast.base, self.fast.other)

    @cached_property
    def slow(self) -> NaivePatching:
        """With hooks on Hugging Face's own modules, the counterfactual's values into the clean run."""
        return self._slow(*self._tokens())

    @cached_property
    def slow_way_back(self) -> NaivePatching:
        """The clean run's values into the counterfactual; what it loses has the opposite sign of the effect."""
        clean, twins = self._tokens()
        return self._slow(twins, clean)

    def at(self, label: str) -> Tensor:
        return torch.tensor([prompt.positions[label] for prompt in self.prompts.prompts])

    def group(self, layer: int) -> list[Head]:
        """The heads that share the first head's keys and values."""
        return [Head(layer, head) for head in range(HEADS // self.model.layout.groups(layer))]

    def _tokens(self) -> tuple[Tensor, Tensor]:
        rows = self.prompts.prompts
        return torch.tensor([row.tokens for row in rows]), torch.tensor([row.counterfactual for row in rows])

    def _slow(self, base: Tensor, other: Tensor) -> NaivePatching:
        model = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager"
        ).eval()
        right = torch.tensor([prompt.right.token for prompt in self.prompts.prompts])
        wrong = torch.tensor([prompt.wrong.token for prompt in self.prompts.prompts])
        with exact_softmax():
            return NaivePatching(model, base, other, right, wrong)


@cache
def shared(name: str) -> Both:
    """The same for every file of tests in this process. No test may change it."""
    folder = Path(tempfile.mkdtemp(prefix="patching-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Both(name, folder)


def by_naive(slow: Callable[[Sender], Tensor]) -> Tensor:
    """What naive patching says of every sender [senders, prompts]."""
    with exact_softmax(), torch.no_grad():
        return torch.stack([slow(naive(sender)) for sender in SENDERS])


def naive(sender: FastSender) -> Sender:
    return ("mlp", sender.layer, 0) if isinstance(sender, Mlp) else ("head", sender.layer, sender.head)


def apart(got: Tensor, expected: Tensor) -> float:
    """The largest difference, in units of the largest expected effect, which must be one that can be told from 0."""
    scale = float(expected.abs().max())
    assert scale > 1e-3, "the effects are too small to tell right from wrong"
    return float((got - expected).abs().max()) / scale
