"""Path patching is exact: equal to hooks on Hugging Face's own modules, for every block shape that is claimed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
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
    MistralConfig,
    MixtralConfig,
    PhiConfig,
)

from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.engine import Model
from circuit_assertions.engine.patching import Patching
from circuit_assertions.engine.rows import Mlp
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
FURTHER: dict[str, Callable[[int], Any]] = {
    "gpt-j, parallel with one norm": lambda size: GPTJConfig(
        vocab_size=size, n_embd=32, n_layer=3, n_head=4, n_positions=64, rotary_dim=4, bos_token_id=0, eos_token_id=0
    ),
    "gemma 3, post-norm and query-key norm": lambda size: Gemma3TextConfig(
        **_SHAPE, vocab_size=size, num_key_value_heads=2, head_dim=8, sliding_window=8
    ),
    "phi, parallel with partial rotation": lambda size: PhiConfig(**_SHAPE, vocab_size=size),
    "falcon, multi-query": lambda size: FalconConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        multi_query=True,
        parallel_attn=True,
        new_decoder_architecture=False,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "mistral, sliding window": lambda size: MistralConfig(
        **_SHAPE, vocab_size=size, num_key_value_heads=1, sliding_window=6
    ),
    "mixtral, mixture of experts": lambda size: MixtralConfig(
        **_SHAPE, vocab_size=size, num_key_value_heads=2, num_local_experts=4
    ),
}

# GPT-J takes its attention scores in float32 whatever the model's dtype; the experts' grouped product has no float64.
_BOUND = {"gpt-j, parallel with one norm": 1e-5, "mixtral, mixture of experts": 1e-4}


class Both:
    """One random model, patched fast and patched slowly."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        words = word_tokenizer()
        config = FURTHER[name](len(words)) if name in FURTHER else config_of(name, len(words))
        random_model(config).save_pretrained(folder)
        words.save_pretrained(folder)
        dtype = "float32" if "mixtral" in name else "float64"
        source = open_checkpoint(find_checkpoints(str(folder))[0], Opening(device="cpu", dtype=dtype))
        self.prompts: PromptSet = TASK.build(source.tokenizer)
        with exact_softmax():
            self.fast = Patching.of(Model.of(source), self.prompts.prompts)
            slow = AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), attn_implementation="eager"
            ).eval()
            rows = self.prompts.prompts
            self.slow = NaivePatching(
                slow,
                torch.tensor([prompt.tokens for prompt in rows]),
                torch.tensor([prompt.counterfactual for prompt in rows]),
                torch.tensor([prompt.right for prompt in rows]),
                torch.tensor([prompt.wrong for prompt in rows]),
            )

    def at(self, label: str) -> Tensor:
        return torch.tensor([prompt.positions[label] for prompt in self.prompts.prompts])

    def group(self, layer: int) -> list[Head]:
        """The heads that share the first head's keys and values."""
        groups = self.fast.model.bridge.blocks[layer].attn.W_V.shape[0]
        return [Head(layer, head) for head in range(HEADS // groups)]

    def agree(self, fast: Tensor, slow: Callable[[Sender], Tensor]) -> None:
        with exact_softmax(), torch.no_grad():
            expected = torch.stack([slow(naive(sender)) for sender in SENDERS])  # [senders, prompts]
        scale = float(expected.abs().max())
        assert scale > 1e-3, "the effects are too small to tell right from wrong"
        assert float((fast - expected).abs().max()) <= _BOUND.get(self.name, 1e-10) * scale


def naive(sender: FastSender) -> Sender:
    return ("mlp", sender.layer, 0) if isinstance(sender, Mlp) else ("head", sender.layer, sender.head)


@pytest.fixture(scope="module", params=[*ARCHITECTURES, *FURTHER])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(request.param, tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("semantics", ["through-mlps", "direct"])
def test_paths_to_the_logits(both: Both, semantics: Any) -> None:
    both.agree(both.fast.to_logits(SENDERS, semantics), lambda sender: both.slow.to_logits(sender, semantics))


@pytest.mark.parametrize("semantics", ["through-mlps", "direct"])
def test_paths_through_queries_of_receivers_in_two_layers(both: Both, semantics: Any) -> None:
    with exact_softmax():
        fast = both.fast.to_inputs(SENDERS, "q", [Head(2, 1), Head(1, 3)], "end", semantics)
    both.agree(fast, lambda one: both.slow.to_inputs(one, "q", [(2, 1), (1, 3)], both.at("end"), semantics))


@pytest.mark.parametrize("which", ["k", "v"])
def test_paths_through_keys_and_values_in_the_middle_of_the_prompt(both: Both, which: Any) -> None:
    receivers = [*both.group(1), *both.group(2)]
    with exact_softmax():
        fast = both.fast.to_inputs(SENDERS, which, receivers, "subject-2", "through-mlps")
    slow = functools.partial(both.slow.to_inputs, which=which, receivers=[(1, 0), (2, 0)], semantics="through-mlps")
    both.agree(fast, lambda sender: slow(sender, at=both.at("subject-2")))


@pytest.mark.parametrize("label", [None, "subject-2"])
def test_total_effects_at_one_position_and_at_all(both: Both, label: str | None) -> None:
    with exact_softmax():
        fast = both.fast.total(SENDERS, label)
    both.agree(fast, lambda sender: both.slow.total(sender, None if label is None else both.at(label)))


def test_every_sender_at_once_gives_the_counterfactuals_logits(both: Both) -> None:
    """`direct`: what all heads and MLPs write, and nothing else, tells one run from the other."""
    patching = both.fast
    end = both.at("end")
    rows = torch.arange(len(end))
    difference = patching.other.residual[0] - patching.base.residual[0]  # the embeddings differ too, at the name slots
    written = patching.base.final + difference
    for layer in range(LAYERS):
        written = written + patching.other.attention_writes[layer] - patching.base.attention_writes[layer]
        written = written + patching.other.mlp_writes[layer] - patching.base.mlp_writes[layer]
    got, expected = written[rows, end], patching.other.final[rows, end]
    assert float((got - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_a_prompt_patched_with_itself_changes_nothing(both: Both) -> None:
    patching = both.fast
    same = Patching(patching.model, patching.prompts, patching.base, patching.base, patching.blocks)
    with exact_softmax():
        effects = [
            same.to_logits(SENDERS, "through-mlps"),
            same.to_inputs(SENDERS, "q", [Head(2, 1)], "end", "through-mlps"),
            same.total(SENDERS),
        ]
    bound = 1e-4 if "mixtral" in both.name else 1e-6 if "gpt-j" in both.name else 1e-12
    assert max(float(effect.abs().max()) for effect in effects) <= bound


def test_effects_do_not_depend_on_how_the_work_is_cut(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> Sequence[Tensor]:
        with exact_softmax():
            return (
                both.fast.to_logits(SENDERS, "through-mlps"),
                both.fast.to_inputs(SENDERS, "v", both.group(2), "subject-2", "through-mlps"),
            )

    whole = read()
    monkeypatch.setattr("circuit_assertions.engine.patching._BUDGET", 1)
    for one, other in zip(whole, read(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-5 if "mixtral" in both.name else 1e-12)
