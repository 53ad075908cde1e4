"""Exact on what is not recognised, or scaled: equal to hooks on Hugging Face's own modules, in float64."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import naive_effects
import pytest
import torch
from auditing import Audited
from further_cases import CASES, HOOKED, SCALED
from naive_patching import NaivePatching, Sender, exact_softmax
from patching_cases import SENDERS, TASK, Both, apart, by_naive
from torch import Tensor

from circuit_assertions.components import Residual
from circuit_assertions.engine import MeasuringError, SlowPatchingWarning, open_patching
from circuit_assertions.engine.backends import AnyPatching
from circuit_assertions.engine.hooked import HookedPatching
from circuit_assertions.engine.patching import Patching
from circuit_assertions.heads import Head

QUERIES = [Head(2, 1), Head(1, 3)]
HEADS = [sender for sender in SENDERS if isinstance(sender, Head)]
SETS: tuple[list[Head], ...] = ([Head(0, 1)], [Head(2, 0), Head(0, 3), Head(1, 2)], [Head(1, 1), Head(1, 2)])
# Cohere and GLM turn queries and keys in float32 whatever the model's dtype, and MPT rounds its scores.
_ROUNDED = ("cohere", "glm", "mpt")
_NOT_POST_NORM = tuple(name for name in CASES if not name.startswith(("bert", "opt", "bloom, residual")))
_LOCAL = ("gpt-oss", "modernbert", "cohere, normed", "cohere 2")  # pays next to nothing to what is asked for below


family = pytest.mark.family(
    main="name",
    whole=("bloom, attention biased by distance",),
    turns=("which", "at", "semantics", "label"),
)


@pytest.fixture(scope="module", params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def both(name: str, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(name, tmp_path_factory.mktemp("model"), CASES)


@pytest.fixture(scope="module")
def way(both: Both) -> AnyPatching:
    with exact_softmax(), warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowPatchingWarning)
        return open_patching(both.model, both.prompts.prompts)


def agree(both: Both, got: Tensor, slow: Callable[[Sender], Tensor]) -> None:
    assert apart(got, by_naive(slow)) <= bound(both)


def bound(both: Both) -> float:
    return 1e-5 if both.name.startswith(_ROUNDED) else 1e-11


def groups(both: Both) -> list[Head]:
    return [*both.group(1), *both.group(2)]


def test_the_way_that_is_taken(both: Both, way: AnyPatching) -> None:
    assert isinstance(way, HookedPatching if both.name in HOOKED else Patching)
    assert both.name in {**HOOKED, **SCALED}
    assert not {"outputs", "readout", "patterns", "inputs"} & set(both.model.limits)


@family
@torch.no_grad()
def test_the_logit_difference_is_the_models_own(both: Both, way: AnyPatching) -> None:
    assert apart(way.difference, both.slow.difference(both.slow.clean.logits)) <= bound(both)


@family
def test_patterns_are_the_models_own(both: Both, way: AnyPatching) -> None:
    with exact_softmax(), torch.no_grad():
        patterns = both.slow.model(both.slow.tokens, use_cache=False, output_attentions=True).attentions
    for got, expected in zip(way.base.patterns, patterns, strict=True):
        assert apart(got, expected) <= bound(both)


@family
@pytest.mark.parametrize("semantics", ["through-mlps", "direct"])
def test_paths_to_the_logits(both: Both, way: AnyPatching, semantics: Any) -> None:
    with exact_softmax():
        got = way.to_logits(SENDERS, semantics)
        back = way.towards("clean-into-counterfactual").to_logits(SENDERS, semantics)
    agree(both, got, lambda sender: both.slow.to_logits(sender, semantics))
    agree(both, back, lambda sender: -both.slow_way_back.to_logits(sender, semantics))


@family
@pytest.mark.parametrize(("which", "at", "semantics"), [("q", "end", "through-mlps"), ("v", "subject-2", "direct")])
def test_paths_through_queries_and_values(both: Both, way: AnyPatching, which: Any, at: str, semantics: Any) -> None:
    receivers = QUERIES if which == "q" else groups(both)
    with exact_softmax():
        got = way.to_inputs(SENDERS, which, receivers, at, semantics)
    agree(both, got, lambda sender: both.slow.to_inputs(sender, which, receivers, both.at(at), semantics))


@family
def test_paths_through_keys(both: Both, way: AnyPatching) -> None:
    receivers, at = groups(both), both.at("subject-2")
    with exact_softmax():
        got = way.to_inputs(SENDERS, "k", receivers, "subject-2", "through-mlps")
    slow = latent_keys if "latent" in both.name else NaivePatching.to_inputs
    agree(both, got, lambda sender: slow(both.slow, sender, "k", receivers, at, "through-mlps"))


@family
@pytest.mark.parametrize("label", [None, "subject-2"])
def test_total_effects(both: Both, way: AnyPatching, label: str | None) -> None:
    at = None if label is None else both.at(label)
    with exact_softmax():
        got, entering = way.total(SENDERS, label), way.total([Residual(1), Residual(2)], label)
        expected = torch.stack([naive_effects.total_of_residual(both.slow, layer, at) for layer in (1, 2)])
    agree(both, got, lambda sender: both.slow.total(sender, at))
    assert apart(entering, expected) <= bound(both)


@family
def test_attention_that_hangs_on_senders(both: Both, way: AnyPatching) -> None:
    if both.name.startswith(_LOCAL):
        pytest.skip("pays next to nothing there")
    query, key = both.at("end"), both.at("subject-2")
    with exact_softmax():
        got = way.to_attention(SENDERS, "q", QUERIES, "end", "subject-2", "through-mlps")
    agree(
        both,
        got,
        lambda sender: naive_effects.to_attention(both.slow, sender, "q", QUERIES, query, key, "through-mlps"),
    )


@family
def test_what_receivers_write(both: Both, way: AnyPatching) -> None:
    if both.name not in _NOT_POST_NORM:
        assert "residual" in both.model.limits
        return
    with exact_softmax():
        got = way.to_writes(SENDERS, "q", QUERIES, "end", "direct")
    agree(both, got, lambda sender: naive_effects.to_writes(both.slow, sender, "q", QUERIES, both.at("end"), "direct"))


@family
def test_patterns_over_live_values(both: Both, way: AnyPatching) -> None:
    if "values" in both.model.limits:
        assert both.name == "afmoe, gated heads"
        return
    with exact_softmax():
        got = way.of_patterns(HEADS)
        slow = [naive_effects.of_pattern(both.slow, head.layer, head.head, None) for head in HEADS]
    assert apart(got, torch.stack(slow)) <= bound(both)


@family
def test_sets_of_heads_ablated_together(both: Both, way: AnyPatching) -> None:
    slow = both.slow

    def without(heads: Sequence[Head]) -> Tensor:
        with contextlib.ExitStack() as stack:
            for layer in {head.layer for head in heads}:

                def put(_module: Any, inputs: Any, layer: int = layer) -> Any:
                    changed = inputs[0].clone()
                    for head in heads:
                        if head.layer == layer:
                            theirs = slow.heads(slow.blocks[layer], slow.other.z[layer])
                            slow.heads(slow.blocks[layer], changed)[:, :, head.head] = theirs[:, :, head.head]
                    return (changed, *inputs[1:])

                handle = slow.output(slow.blocks[layer]).register_forward_pre_hook(put)
                stack.callback(handle.remove)
            return slow.difference(slow.keep(slow.tokens).logits)

    with exact_softmax():
        got, expected = way.ablated(SETS, way.other.head_outputs), torch.stack([without(heads) for heads in SETS])
    assert apart(got, expected) <= bound(both)


@family
def test_direct_effects_are_what_is_lost_without_a_write(both: Both) -> None:
    audited = Audited(both.folder, "float64")
    if both.name not in _NOT_POST_NORM:
        with pytest.raises(MeasuringError, match=r"direct-effect .*\bblock 0\b"):
            audited.read("direct-effect", TASK)
        return
    with exact_softmax():
        got = torch.as_tensor(audited.read("direct-effect", TASK, *HEADS).values)  # [prompts, heads]
        expected = torch.stack([direct(both.slow, head) for head in HEADS], dim=1)
    assert apart(got, expected) <= bound(both)


@torch.no_grad()
def direct(slow: NaivePatching, head: Head) -> Tensor:
    """Logit difference lost when the head puts out nothing and every other head and MLP puts out what it did [prompts].

    The stream behind the last block then lacks what the head adds, and nothing else.
    """
    z = slow.clean.z[head.layer].clone()
    slow.heads(slow.blocks[head.layer], z)[:, :, head.head] = 0.0
    with contextlib.ExitStack() as stack:
        for layer in range(len(slow.blocks)):
            put = z if layer == head.layer else slow.clean.z[layer]
            stack.enter_context(slow.as_put(layer, put, slow.clean.mlp[layer]))
        return slow.lost(slow.keep(slow.tokens).logits)


def latent_keys(
    slow: NaivePatching, sender: Sender, which: str, receivers: Sequence[Head], at: Tensor, semantics: str
) -> Tensor:
    """Path effects through keys as attention takes them, made of two projections each: put in where they meet."""
    layers = {head.layer for head in receivers}
    family = f"transformers.models.{slow.model.config.model_type}.modeling_{slow.model.config.model_type}"
    seen: dict[int, Tensor] = {}
    rows = torch.arange(len(at))

    @contextlib.contextmanager
    def attending(change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
        original = importlib.import_module(family).eager_attention_forward

        def attend(module: Any, query: Tensor, key: Tensor, *rest: Any, **named: Any) -> Any:
            return original(module, query, change(module.layer_idx, key), *rest, **named)

        with mock.patch(f"{family}.eager_attention_forward", attend):
            yield

    def tap(layer: int, key: Tensor) -> Tensor:
        seen[layer] = key.clone()
        return key

    def put(layer: int, key: Tensor) -> Tensor:
        if layer not in layers:
            return key
        changed = key.clone()
        for head in receivers:
            if head.layer == layer:
                changed[rows, head.head, at] = seen[layer][rows, head.head, at]
        return changed

    with slow.frozen(sender, semantics), attending(tap):
        slow.keep(slow.tokens)
    with attending(put):
        return slow.lost(slow.keep(slow.tokens).logits)
