"""Effects on what a receiver itself attends to and writes: equal to hooks on Hugging Face's own modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import naive_effects
import pytest
import torch
from naive_patching import Sender, exact_softmax
from patching_cases import FURTHER, NOT_RECOGNISED, Both, apart, naive, shared
from tiny_models import ARCHITECTURES
from torch import Tensor

from circuit_assertions.components import Mlp, Residual
from circuit_assertions.engine import MeasuringError, SlowPatchingWarning, open_patching
from circuit_assertions.engine.backends import AnyPatching
from circuit_assertions.engine.hooked import HookedPatching
from circuit_assertions.heads import Head

_BOUND = {"gpt-j, parallel with one norm": 1e-5}  # takes its attention scores in float32 whatever the model's dtype
_BETWEEN_WAYS = {"llama": 1e-6, "qwen3": 1e-6, "gemma2": 1e-6}  # their RMSNorm rounds to float32, to either side
FORTH, BACK = "counterfactual-into-clean", "clean-into-counterfactual"
QUERIES = [Head(2, 1), Head(1, 3)]
HEADS = [Head(0, 1), Head(1, 3), Head(2, 0)]
SENDERS = (Head(0, 0), Head(1, 2), Head(0, 3), Mlp(1), Mlp(0), Head(2, 1))


family = pytest.mark.family(main="both", whole=("gpt2",), turns=("which", "at", "semantics", "direction"))


@pytest.fixture(scope="module", params=[*ARCHITECTURES, *FURTHER])
def both(request: pytest.FixtureRequest) -> Both:
    return shared(request.param)


def by_naive(slow: Callable[[Sender], Tensor]) -> Tensor:
    """What naive patching says of every sender [senders, prompts]."""
    with exact_softmax():
        return torch.stack([slow(naive(sender)) for sender in SENDERS])


def receivers_of(both: Both, which: str) -> list[Head]:
    return QUERIES if which == "q" else [*both.group(1), *both.group(2)]


def check(both: Both, direction: str, read: Callable[[AnyPatching], Tensor], slow: Callable[[Sender], Tensor]) -> None:
    """Both ways of patching give the same, and what naive patching gives."""
    sign = 1 if direction == FORTH else -1
    expected = sign * by_naive(slow)
    with exact_softmax():
        fast, hooked = read(both.fast.towards(direction)), read(both.hooked.towards(direction))  # type: ignore[arg-type]
    bound = _BOUND.get(both.name, 1e-10)
    assert apart(fast, expected) <= bound
    assert apart(hooked, expected) <= max(bound, _BETWEEN_WAYS.get(both.name, 0))


@family
@pytest.mark.parametrize(
    ("which", "semantics", "direction"),
    [("q", "through-mlps", FORTH), ("q", "direct", BACK), ("k", "through-mlps", BACK)],
)
def test_attention_that_hangs_on_a_sender(both: Both, which: Any, semantics: Any, direction: str) -> None:
    receivers = receivers_of(both, which)
    base = both.slow if direction == FORTH else both.slow_way_back
    query, key = both.at("end"), both.at("subject-2")
    check(
        both,
        direction,
        lambda way: way.to_attention(SENDERS, which, receivers, "end", "subject-2", semantics),
        lambda sender: naive_effects.to_attention(base, sender, which, receivers, query, key, semantics),
    )


@family
@pytest.mark.parametrize(
    ("which", "at", "semantics", "direction"),
    [
        ("q", "end", "direct", FORTH),
        ("k", "subject-2", "through-mlps", FORTH),
        ("v", "subject-2", "through-mlps", BACK),
    ],
)
def test_writes_that_hang_on_a_sender(both: Both, which: Any, at: str, semantics: Any, direction: str) -> None:
    receivers = receivers_of(both, which)
    base = both.slow if direction == FORTH else both.slow_way_back
    check(
        both,
        direction,
        lambda way: way.to_writes(SENDERS, which, receivers, at, semantics),
        lambda sender: naive_effects.to_writes(base, sender, which, receivers, both.at(at), semantics),
    )


@family
def test_a_key_of_one_query_head_alone(both: Both) -> None:
    """Where heads share their keys, each receives a key of its own: its attention is as if its group had received."""
    group = both.group(2)
    query, key = both.at("end"), both.at("subject-2")

    def expected(head: Head) -> Tensor:
        return by_naive(lambda sender: naive_effects.to_attention(both.slow, sender, "k", [head], query, key, "direct"))

    for head in group:
        with exact_softmax():
            alone = both.fast.to_attention(SENDERS, "k", [head], "end", "subject-2", "direct")
        assert apart(alone, expected(head)) <= _BOUND.get(both.name, 1e-10)
    if len(group) > 1:
        with pytest.raises(MeasuringError, match=rf"groups of {len(group)}\b"):
            both.hooked.to_attention(SENDERS, "k", group[:1], "end", "subject-2", "direct")


@family
def test_what_does_not_reach_a_receiver_does_nothing_to_it(both: Both) -> None:
    above = [sender for sender in SENDERS if sender.layer >= 1]
    for way in (both.fast, both.hooked):
        with exact_softmax():
            attention = way.to_attention(above, "q", [Head(1, 2)], "end", "subject-2", "through-mlps")
            writes = way.to_writes(above, "v", both.group(1), "subject-2", "through-mlps")
        assert float(attention.abs().max()) <= 1e-6
        assert float(writes.abs().max()) <= 1e-4


@family
def test_the_mean_over_receivers_is_the_mean_of_each_alone(both: Both) -> None:
    def read(*receivers: Head) -> Tensor:
        return both.fast.to_attention(SENDERS, "q", receivers, "end", "subject-2", "through-mlps")

    with exact_softmax():
        together, alone = read(*QUERIES), torch.stack([read(head) for head in QUERIES])
    assert torch.allclose(together, alone.mean(dim=0), rtol=0, atol=1e-7)


@family
def test_a_query_that_writes_elsewhere_is_refused(both: Both) -> None:
    for way in (both.fast, both.hooked):
        with pytest.raises(MeasuringError, match=r"'end'.*\bquery\b.*'subject-2'"):
            way.to_writes(SENDERS, "q", QUERIES, "subject-2", "direct")


@family
def test_receivers_that_are_none_or_outside_are_refused(both: Both) -> None:
    for way in (both.fast, both.hooked):
        with pytest.raises(MeasuringError, match=r"no head .*\breceive\b"):
            way.to_writes(SENDERS, "v", [], "end", "direct")
        with pytest.raises(MeasuringError, match=r"\bL3H0\b.*\b3 layers\b"):
            way.to_attention(SENDERS, "q", [Head(3, 0)], "end", "subject-2", "direct")


@family
def test_no_sender_has_no_effects(both: Both) -> None:
    for way in (both.fast, both.hooked):
        for effects in (
            way.to_logits([], "through-mlps"),
            way.to_inputs([], "q", QUERIES, "end", "direct"),
            way.to_attention([], "q", QUERIES, "end", "subject-2", "direct"),
            way.to_writes([], "v", both.group(1), "end", "direct"),
            way.total([]),
            way.of_patterns([]),
            way.ablated([], way.other.head_outputs),
        ):
            assert effects.shape == (0, len(both.prompts))


@family
def test_local_effects_do_not_depend_on_how_the_work_is_cut(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> tuple[Tensor, ...]:
        with exact_softmax():
            return (
                both.fast.to_attention(SENDERS, "k", both.group(2), "end", "subject-2", "through-mlps"),
                both.fast.to_writes(SENDERS, "k", both.group(2), "subject-2", "through-mlps"),
            )

    whole = read()
    monkeypatch.setenv("CIRCUIT_ASSERTIONS_MEMORY", "1B")
    for one, other in zip(whole, read(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NOT_RECOGNISED)
def test_a_model_that_is_not_recognised_is_measured_with_hooks(name: str, tmp_path: Path) -> None:
    both = Both(name, tmp_path)
    with exact_softmax(), pytest.warns(SlowPatchingWarning):
        way = open_patching(both.model, both.prompts.prompts)
    assert isinstance(way, HookedPatching)
    slow, query, key, receivers = both.slow, both.at("end"), both.at("subject-2"), receivers_of(both, "k")
    with exact_softmax():
        got = (
            way.to_attention(SENDERS, "q", QUERIES, "end", "subject-2", "through-mlps"),
            way.to_writes(SENDERS, "v", receivers, "subject-2", "direct"),
            way.of_patterns(HEADS, "end"),
            way.total([Residual(1)], "subject-2"),
        )
        expected = (
            by_naive(lambda one: naive_effects.to_attention(slow, one, "q", QUERIES, query, key, "through-mlps")),
            by_naive(lambda one: naive_effects.to_writes(slow, one, "v", receivers, key, "direct")),
            torch.stack([naive_effects.of_pattern(slow, *head, query) for head in HEADS]),
            naive_effects.total_of_residual(slow, 1, key)[None],
        )
    for one, other in zip(got, expected, strict=True):
        assert apart(one, other) <= 1e-6
