"""Path patching is exact: equal to hooks on Hugging Face's own modules, for every block shape that is claimed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from naive_patching import Sender, exact_softmax
from patching_cases import FURTHER, LAYERS, SENDERS, Both, apart, by_naive
from tiny_models import ARCHITECTURES
from torch import Tensor

from circuit_assertions.engine.patching import Patching
from circuit_assertions.heads import Head


def agree(both: Both, fast: Tensor, slow: Callable[[Sender], Tensor]) -> None:
    assert apart(fast, by_naive(slow)) <= 1e-10


@pytest.fixture(scope="module", params=[*ARCHITECTURES, *FURTHER])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(request.param, tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("semantics", ["through-mlps", "direct"])
def test_paths_to_the_logits(both: Both, semantics: Any) -> None:
    with exact_softmax():
        fast = both.fast.to_logits(SENDERS, semantics)
    agree(both, fast, lambda sender: both.slow.to_logits(sender, semantics))


@pytest.mark.parametrize("semantics", ["through-mlps", "direct"])
def test_paths_through_queries_of_receivers_in_two_layers(both: Both, semantics: Any) -> None:
    with exact_softmax():
        fast = both.fast.to_inputs(SENDERS, "q", [Head(2, 1), Head(1, 3)], "end", semantics)
    agree(both, fast, lambda one: both.slow.to_inputs(one, "q", [(2, 1), (1, 3)], both.at("end"), semantics))


@pytest.mark.parametrize("which", ["k", "v"])
def test_paths_through_keys_and_values_in_the_middle_of_the_prompt(both: Both, which: Any) -> None:
    receivers = [*both.group(1), *both.group(2)]
    with exact_softmax():
        fast = both.fast.to_inputs(SENDERS, which, receivers, "subject-2", "through-mlps")
    slow = functools.partial(both.slow.to_inputs, which=which, receivers=[(1, 0), (2, 0)], semantics="through-mlps")
    agree(both, fast, lambda sender: slow(sender, at=both.at("subject-2")))


@pytest.mark.parametrize(("which", "label"), [("q", "end"), ("v", "subject-2")])
def test_paths_the_other_way_push_the_same_way_up(both: Both, which: Any, label: str) -> None:
    patching = both.fast.towards("clean-into-counterfactual")
    receivers = [Head(1, 0), Head(2, 0)] if which == "q" else [*both.group(1), *both.group(2)]
    with exact_softmax():
        fast = patching.to_inputs(SENDERS, which, receivers, label, "through-mlps")
    slow, at = both.slow_way_back, both.at(label)
    agree(both, fast, lambda sender: -slow.to_inputs(sender, which, [(1, 0), (2, 0)], at, "through-mlps"))


@pytest.mark.parametrize("label", [None, "subject-2"])
def test_total_effects_at_one_position_and_at_all(both: Both, label: str | None) -> None:
    with exact_softmax():
        fast = both.fast.total(SENDERS, label)
    agree(both, fast, lambda sender: both.slow.total(sender, None if label is None else both.at(label)))


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
    same = Patching(patching.model, patching.prompts, patching.base, patching.base, blocks=patching.blocks)
    with exact_softmax():
        effects = [
            same.to_logits(SENDERS, "through-mlps"),
            same.to_inputs(SENDERS, "q", [Head(2, 1)], "end", "through-mlps"),
            same.total(SENDERS),
        ]
    assert max(float(effect.abs().max()) for effect in effects) <= 1e-12


def test_effects_do_not_depend_on_how_the_work_is_cut(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> Sequence[Tensor]:
        with exact_softmax():
            return (
                both.fast.to_logits(SENDERS, "through-mlps"),
                both.fast.to_inputs(SENDERS, "v", both.group(2), "subject-2", "through-mlps"),
            )

    whole = read()
    monkeypatch.setenv("CIRCUIT_ASSERTIONS_MEMORY", "1B")
    for one, other in zip(whole, read(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)
