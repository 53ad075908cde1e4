"""A model's weights by part, on Hugging Face's own modules: each belongs to one, and a head's to no other head."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from grafting_cases import FUSED, configuration
from naive_patching import WIRINGS, Wiring
from patching_cases import CLAMPED_LATER, CONFIGS, HEADS, LAYERS
from reference_model import word_tokenizer
from said import says
from tiny_models import ARCHITECTURES, random_model
from torch import Tensor
from transformers import CodeGenConfig, GPT2Config

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.parts import parts_of
from circuit_assertions.components import Embedding, Mlp, Norms, Part, Unembedding, parse_part
from circuit_assertions.heads import Head, HeadError

SHAPES = (*ARCHITECTURES, *CONFIGS, *FUSED)
# Where blocks, attention and its output projection are, where `naive_patching` does not say.
_PLACES = {
    "bloom": ("transformer.h", "self_attention", "dense"),
    "phi3": ("model.layers", "self_attn", "o_proj"),
    "mpt": ("transformer.blocks", "attn", "out_proj"),
    "gpt_bigcode": ("transformer.h", "attn", "c_proj"),
}
# Heads that share keys and values, where a head has not its own.
SHARE = {
    **dict.fromkeys(("llama", "qwen3", "gemma2", "phi 3, grouped", "falcon, grouped"), 2),
    **dict.fromkeys(
        (
            "gemma 3, post-norm and query-key norm",
            "mixtral, mixture of experts",
            "olmo 2, post-norm alone",
            "olmo, clamped attention",
            CLAMPED_LATER,
        ),
        2,
    ),
    **dict.fromkeys(("falcon, multi-query", "falcon, attention biased by distance", "starcoder, multi-query"), HEADS),
    "mistral, sliding window": HEADS,
}
NORMED_TOGETHER = "olmo 2, post-norm alone"
TOKENS = torch.tensor([[5, 17, 3, 90, 41, 8, 77], [60, 2, 33, 12, 9, 101, 4]])


@pytest.fixture(scope="module", params=SHAPES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> Any:
    config = configuration(name)
    config._experts_implementation = "eager"  # the experts' grouped product has no float64
    return random_model(config).double()


@torch.no_grad()
def test_every_weight_belongs_to_exactly_one_part(model: Any) -> None:
    parts = parts_of(model)
    before = [parameter.clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.zero_()
    for weights in parts.weights.values():
        for weight in weights:
            weight += 1
    for parameter, kept in zip(model.parameters(), before, strict=True):
        assert bool((parameter == 1).all())
        parameter.copy_(kept)
    kinds = Counter(type(part) for part in parts.weights)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert kinds[Head] == LAYERS * HEADS
    assert kinds[Mlp] == LAYERS
    assert kinds[Norms] == (0 if model.config.model_type == "olmo" else LAYERS + 1)  # its norms have no weights
    assert kinds[Embedding] == 1
    assert kinds[Unembedding] == (0 if tied and getattr(model.get_output_embeddings(), "bias", None) is None else 1)
    assert parts.reasons == {}


def output_of(model: Any, layer: int) -> Any:
    kind = model.config.model_type
    wiring = WIRINGS.get(kind)
    places = _PLACES[kind] if wiring is None else _of(wiring)
    block = model.get_submodule(places[0])[layer]
    return block.get_submodule(places[1]).get_submodule(places[2])


def _of(wiring: Wiring) -> tuple[str, str, str]:
    return wiring.blocks, wiring.attention, wiring.output


@torch.no_grad()
def heads_put_out(model: Any, layer: int) -> tuple[Tensor, Tensor]:
    """What each head hands to the output projection [prompts, positions, heads, d_head], and what that makes of it."""
    kept: list[Tensor] = []
    handle = output_of(model, layer).register_forward_hook(lambda _module, given, out: kept.extend((given[0], out)))
    try:
        model(TOKENS, use_cache=False)
    finally:
        handle.remove()
    z, written = (value.clone() for value in kept)
    return z.view(*z.shape[:-1], HEADS, -1), written


@torch.no_grad()
def test_a_heads_weights_make_its_own_output_and_nothing_else(name: str, model: Any) -> None:
    parts, layer = parts_of(model).weights, 1
    before, written = heads_put_out(model, layer)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    share = SHARE.get(name, 1)
    for head in range(HEADS):
        *read, written_with = parts[Head(layer, head)]
        for weights in read:
            weights.mul_(-1.7).add_(0.1)
        now, _ = heads_put_out(model, layer)
        moved = {other for other in range(HEADS) if not torch.equal(now[:, :, other], before[:, :, other])}
        # Keys and values of a group are with its first head. Where all heads are normed together, all of them move.
        assert moved == set(
            range(HEADS) if name == NORMED_TOGETHER else range(head, head + share if head % share == 0 else head + 1)
        )
        model.load_state_dict(kept)
        written_with.zero_()
        same, without = heads_put_out(model, layer)
        assert torch.equal(same, before)
        silenced = before.clone()
        silenced[:, :, head] = 0
        model.load_state_dict(kept)
        torch.testing.assert_close(without, output_of(model, layer)(silenced.flatten(-2)), rtol=1e-12, atol=1e-12)
        assert not torch.allclose(without, written)


def test_heads_are_refused_where_the_order_within_a_matrix_is_not_known() -> None:
    size = len(word_tokenizer())
    model = random_model(CodeGenConfig(vocab_size=size, n_embd=32, n_layer=3, n_head=4, n_positions=64, rotary_dim=4))
    parts = parts_of(model)
    assert {type(part) for part in parts.weights} == {Embedding, Mlp, Norms, Unembedding}
    assert set(parts.reasons) == {0, 1, 2}
    assert says(parts.reasons[0], "queries", "codegen")
    norms = {id(parameter) for name, parameter in model.named_parameters() if ".1.ln_1" in name}
    assert {weight.data_ptr() for weight in parts.weights[Norms(1)]} == {
        parameter.data_ptr() for parameter in model.parameters() if id(parameter) in norms
    }


def test_heads_are_refused_where_the_weights_do_not_divide_by_them() -> None:
    model = random_model(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=16))
    model.config.n_head = 5
    shapes = parts_of(model).reasons[0]
    assert says(shapes, "shapes", "heads")
    model.config.__dict__["n_head"] = [4, 4]
    number = parts_of(model).reasons[0]
    assert says(number, "configuration", "heads")
    assert not says(number, "shapes")


def test_a_model_without_a_list_of_blocks_has_no_parts() -> None:
    model = random_model(GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=4, n_positions=16))
    model.transformer.h = torch.nn.Sequential(*model.transformer.h)
    with pytest.raises(CheckpointError, match=r"GPT2LMHeadModel .*\bblocks\b.*\blist\b"):
        parts_of(model)


@pytest.mark.parametrize("part", [Head(2, 0), Mlp(4), Norms(3), Embedding(), Unembedding(12)])
def test_a_part_is_read_as_it_prints(part: Part) -> None:
    assert parse_part(f" {part} ") == part
    assert {part: 1}[parse_part(str(part))] == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("mlp4", ["'mlp4'", "MLP4?"]),
        ("l2h10", ["'l2h10'", "L2H10?"]),
        ("NORMS3", ["'NORMS3'", "NORM3?"]),
        ("EMBEDDING", ["'EMBEDDING'", "EMBED?"]),
        ("L2", ["'L2'"]),
        ("9.10", ["'9.10'"]),
        ("RESID2", ["RESID2", "residual stream"]),
    ],
)
def test_what_names_no_part_is_refused_with_what_was_meant(text: str, named: list[str]) -> None:
    with pytest.raises(HeadError) as refused:
        parse_part(text)
    assert says(refused.value, *named, "L9H10", "MLP4", "NORM3", "EMBED", "UNEMBED")
