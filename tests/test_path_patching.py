"""Path patching is exact: equal to hooks on Hugging Face's own modules, for every block shape that is claimed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from naive_patching import Sender, exact_softmax
from patching_cases import CLAMPED_LATER, FURTHER, LAYERS, SENDERS, Both, apart, by_naive, shared
from tiny_models import ARCHITECTURES
from torch import Tensor

from circuit_assertions.engine.arithmetic import raw
from circuit_assertions.engine.hooked import HookedPatching
from circuit_assertions.engine.layout import Layout
from circuit_assertions.engine.patching import Patching
from circuit_assertions.engine.recognition import NotRecognisedError, recognise
from circuit_assertions.heads import Head
from circuit_assertions.tasks import Prompt


def agree(both: Both, fast: Tensor, slow: Callable[[Sender], Tensor]) -> None:
    assert apart(fast, by_naive(slow)) <= 1e-10


family = pytest.mark.family(main="both", whole=("gpt2",), turns=("semantics", "which", "label", "reading"))


@pytest.fixture(scope="module", params=[*ARCHITECTURES, *FURTHER])
def both(request: pytest.FixtureRequest) -> Both:
    return shared(request.param)


@family
@pytest.mark.parametrize("semantics", ["through-mlps", "direct"])
def test_paths_to_the_logits(both: Both, semantics: Any) -> None:
    with exact_softmax():
        fast = both.fast.to_logits(SENDERS, semantics)
    agree(both, fast, lambda sender: both.slow.to_logits(sender, semantics))


@family
@pytest.mark.parametrize("semantics", ["through-mlps", "direct"])
def test_paths_through_queries_of_receivers_in_two_layers(both: Both, semantics: Any) -> None:
    with exact_softmax():
        fast = both.fast.to_inputs(SENDERS, "q", [Head(2, 1), Head(1, 3)], "end", semantics)
    agree(both, fast, lambda one: both.slow.to_inputs(one, "q", [(2, 1), (1, 3)], both.at("end"), semantics))


@family
@pytest.mark.parametrize("which", ["k", "v"])
def test_paths_through_keys_and_values_in_the_middle_of_the_prompt(both: Both, which: Any) -> None:
    receivers = [*both.group(1), *both.group(2)]
    with exact_softmax():
        fast = both.fast.to_inputs(SENDERS, which, receivers, "subject-2", "through-mlps")
    slow = functools.partial(both.slow.to_inputs, which=which, receivers=[(1, 0), (2, 0)], semantics="through-mlps")
    agree(both, fast, lambda sender: slow(sender, at=both.at("subject-2")))


@family
@pytest.mark.parametrize(("which", "label"), [("q", "end"), ("v", "subject-2")])
def test_paths_the_other_way_push_the_same_way_up(both: Both, which: Any, label: str) -> None:
    patching = both.fast.towards("clean-into-counterfactual")
    receivers = [Head(1, 0), Head(2, 0)] if which == "q" else [*both.group(1), *both.group(2)]
    with exact_softmax():
        fast = patching.to_inputs(SENDERS, which, receivers, label, "through-mlps")
    slow, at = both.slow_way_back, both.at(label)
    agree(both, fast, lambda sender: -slow.to_inputs(sender, which, [(1, 0), (2, 0)], at, "through-mlps"))


@family
@pytest.mark.parametrize("label", [None, "subject-2"])
def test_total_effects_at_one_position_and_at_all(both: Both, label: str | None) -> None:
    with exact_softmax():
        fast = both.fast.total(SENDERS, label)
    agree(both, fast, lambda sender: both.slow.total(sender, None if label is None else both.at(label)))


@family
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


@family
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


@family
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


HEADS = [sender for sender in SENDERS if isinstance(sender, Head)]
READINGS: dict[str, Callable[[Patching | HookedPatching], Tensor]] = {
    "logits": lambda way: way.to_logits(SENDERS, "through-mlps"),
    "queries at end": lambda way: way.to_inputs(SENDERS, "q", [Head(2, 1), Head(1, 3)], "end", "direct"),
    "values in the middle": lambda way: way.to_inputs(SENDERS, "v", [Head(1, 0), Head(2, 2)], "subject-2", "direct"),
    "total": lambda way: way.total(SENDERS),
    "total at a position": lambda way: way.total(SENDERS, "subject-2"),
    "patterns": lambda way: way.of_patterns(HEADS),
}


@pytest.fixture(scope="module", params=["gpt2", "gpt-neox"])
def exact(request: pytest.FixtureRequest) -> Both:
    """A model that computes in float64 what it is asked to, learned positions and rotary ones."""
    return shared(request.param)


def read_at(prompt: Prompt, end: int) -> Prompt:
    return dataclasses.replace(prompt, positions={**prompt.positions, "end": end})


@pytest.mark.parametrize("reading", READINGS)
def test_prompts_of_one_length_may_be_read_at_different_places(exact: Both, reading: str) -> None:
    """The second one before its receivers and their values."""
    whole = exact.fast
    last = len(whole.prompts[0].tokens) - 1
    ends = (last, whole.prompts[1].positions["subject-2"] - 1, last - 2, last)
    prompts = tuple(read_at(prompt, end) for prompt, end in zip(whole.prompts, ends, strict=True))
    with exact_softmax():
        fast, hooked = (READINGS[reading](dataclasses.replace(way, prompts=prompts)) for way in (whole, exact.hooked))
    assert apart(fast, hooked) <= 1e-10


def test_what_differs_only_after_the_answer_is_read_changes_nothing(exact: Both) -> None:
    prompts = []
    for prompt in exact.prompts.prompts:
        *before, last = prompt.tokens
        twin = (*before, (last + 1) % exact.model.layout.vocabulary)
        read = read_at(prompt, len(before) - 1)
        positions = {**read.positions, "after": len(before)}
        prompts.append(dataclasses.replace(read, counterfactual=twin, positions=positions))
    with exact_softmax():
        patching = Patching.of(exact.model, prompts)
        assert not torch.equal(patching.base.final, patching.other.final)
        assert not patching.total(SENDERS).any()
        assert not patching.total(SENDERS, "after").any()
        assert not patching.of_patterns(HEADS).any()
        assert not patching.to_inputs(SENDERS, "v", [Head(1, 0), Head(2, 2)], "after", "through-mlps").any()
        assert float(patching.to_logits(SENDERS, "through-mlps").abs().max()) <= 1e-12


def test_blocks_must_reproduce_every_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its clamp, the arithmetic of this model is right on the first two prompts, and wrong on a later one."""
    both = Both(CLAMPED_LATER, tmp_path)
    run, layout = both.fast.base, both.model.layout
    monkeypatch.setattr(Layout, "clamped", lambda _layout, _layer, projected: projected)
    with exact_softmax(), torch.no_grad():
        assert len(recognise(layout, run.of_prompts(2))) == LAYERS
        with pytest.raises(NotRecognisedError, match=r"\battention of block 2\b"):
            recognise(layout, run)


def test_attention_sinks_are_refused_even_where_they_take_nothing(exact: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = raw(exact.model.layout.bridge.blocks[1].attn)
    monkeypatch.setattr(attention, "sinks", torch.full((exact.model.layout.heads,), -torch.inf), raising=False)
    with (
        torch.no_grad(),
        pytest.raises(NotRecognisedError, match=r"\bblock 1\b.*\battention sinks\b"),
    ):
        recognise(exact.model.layout, exact.fast.base)
