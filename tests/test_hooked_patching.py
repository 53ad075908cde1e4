"""Patching with hooks: the same numbers as by arithmetic, and right where no arithmetic is known."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from auditing import Audited, ioi
from naive_patching import exact_softmax
from patching_cases import NOT_RECOGNISED, SENDERS, Both, apart, by_naive, shared
from said import says
from tiny_models import ARCHITECTURES, save_tiny
from torch import Tensor

from circuit_assertions.components import Mlp
from circuit_assertions.engine import MeasuringError, SlowPatchingWarning, open_patching
from circuit_assertions.engine.backends import AnyPatching
from circuit_assertions.engine.hooked import HookedPatching
from circuit_assertions.engine.recognition import NotRecognisedError
from circuit_assertions.heads import Head
from circuit_assertions.measures import Receiver
from circuit_assertions.request import Request

GPT_J = "gpt-j, parallel with one norm"  # looks its rotation up in a table, where the others compute it
GROUPED = ("llama", "qwen3", "gemma2")
QUERIES = (Head(2, 1), Head(1, 3))
SOME = (Head(0, 0), Head(0, 3), Head(1, 2), Head(2, 1), Mlp(0), Mlp(1), Mlp(2))
SETS: tuple[list[Head], ...] = ([Head(0, 1)], [Head(2, 0), Head(0, 3)], [], [Head(1, 1), Head(1, 2)])
IOI = ioi(prompts=6)

# Their RMSNorm rounds to float32 whatever the model's dtype, and what differs in the last bit may round to either side;
# GPT-J takes its attention scores in float32.
_BOUND = {"llama": 1e-6, "qwen3": 1e-6, "gemma2": 1e-6, GPT_J: 1e-5}


family = pytest.mark.family(main="both", whole=("gpt2",), turns=("reading", "direction", "which", "outside"))


@pytest.fixture(scope="module", params=[*ARCHITECTURES, GPT_J])
def both(request: pytest.FixtureRequest) -> Both:
    return shared(request.param)


def grouped(both: Both) -> list[Head]:
    return [*both.group(1), *both.group(2)]


READINGS: dict[str, Callable[[Both, AnyPatching], Tensor]] = {
    "logits, through MLPs": lambda both, way: way.to_logits(SOME, "through-mlps"),
    "logits, direct": lambda both, way: way.to_logits(SOME, "direct"),
    "queries at end, through MLPs": lambda both, way: way.to_inputs(SOME, "q", QUERIES, "end", "through-mlps"),
    "queries at end, direct": lambda both, way: way.to_inputs(SOME, "q", QUERIES, "end", "direct"),
    "keys in the middle": lambda both, way: way.to_inputs(SOME, "k", grouped(both), "subject-2", "through-mlps"),
    "values in the middle": lambda both, way: way.to_inputs(SOME, "v", grouped(both), "subject-2", "direct"),
    "total": lambda both, way: way.total(SOME),
    "total at a position": lambda both, way: way.total(SOME, "subject-2"),
    "ablated": lambda both, way: way.ablated(SETS, way.other.head_outputs),
}


@family
@pytest.mark.parametrize("direction", ["counterfactual-into-clean", "clean-into-counterfactual"])
@pytest.mark.parametrize("reading", READINGS)
def test_hooks_and_arithmetic_give_the_same_numbers(both: Both, reading: str, direction: Any) -> None:
    with exact_softmax():
        fast, hooked = (READINGS[reading](both, way.towards(direction)) for way in (both.fast, both.hooked))
    assert fast.shape == hooked.shape
    assert apart(fast, hooked) <= _BOUND.get(both.name, 1e-9)


@family
def test_nothing_ablated_leaves_the_logit_difference_as_it_is(both: Both) -> None:
    with exact_softmax():
        (fast,), (hooked,) = (way.ablated([[]], way.other.head_outputs) for way in (both.fast, both.hooked))
    for left in (fast, hooked):
        assert torch.allclose(left, both.fast.difference, rtol=1e-6)


@family
@pytest.mark.parametrize("which", ["k", "v"])
def test_one_head_of_a_group_cannot_receive_through_hooks(both: Both, which: Any) -> None:
    if both.name not in GROUPED:
        assert len(both.group(1)) == 1  # a head is its own group, and may receive alone
        assert both.hooked.to_inputs(SENDERS[:1], which, [Head(1, 0)], "subject-2", "direct").shape == (1, 4)
        return
    for some in ([Head(1, 0)], [*both.group(1), Head(1, 3)], [*both.group(1), Head(2, 2)]):
        with pytest.raises(MeasuringError, match=r"groups of 2\b"):
            both.hooked.to_inputs(SENDERS[:1], which, some, "subject-2", "through-mlps")


@family
@pytest.mark.parametrize("outside", [Head(3, 0), Head(0, 4)])
@pytest.mark.parametrize("which", ["q", "k", "v"])
def test_a_receiver_that_the_model_has_not_is_refused(both: Both, which: Any, outside: Head) -> None:
    for way in (both.fast, both.hooked):
        with pytest.raises(MeasuringError, match=rf"\b{outside}\b.*\b3 layers of 4\b"):
            way.to_inputs(SENDERS[:1], which, [*both.group(1), outside], "end", "through-mlps")


@pytest.mark.parametrize("name", NOT_RECOGNISED)
@pytest.mark.complete
def test_what_is_not_recognised_falls_back_to_hooks_and_agrees_with_hugging_face(name: str, tmp_path: Path) -> None:
    both = Both(name, tmp_path)
    with exact_softmax(), pytest.warns(SlowPatchingWarning, match=r"\battention of block 0\b.*\bhooks\b"):
        way = open_patching(both.model, both.prompts.prompts)
    assert isinstance(way, HookedPatching)
    slow, end, middle = both.slow, both.at("end"), both.at("subject-2")
    receivers = grouped(both)
    with exact_softmax():
        got = (
            way.to_logits(SENDERS, "through-mlps"),
            way.to_logits(SENDERS, "direct"),
            way.to_inputs(SENDERS, "q", QUERIES, "end", "through-mlps"),
            way.to_inputs(SENDERS, "k", receivers, "subject-2", "through-mlps"),
            way.to_inputs(SENDERS, "v", receivers, "subject-2", "direct"),
            way.total(SENDERS),
            way.towards("clean-into-counterfactual").to_logits(SENDERS, "through-mlps"),
        )
    expected = (
        by_naive(lambda sender: slow.to_logits(sender, "through-mlps")),
        by_naive(lambda sender: slow.to_logits(sender, "direct")),
        by_naive(lambda sender: slow.to_inputs(sender, "q", QUERIES, end, "through-mlps")),
        by_naive(lambda sender: slow.to_inputs(sender, "k", receivers, middle, "through-mlps")),
        by_naive(lambda sender: slow.to_inputs(sender, "v", receivers, middle, "direct")),
        by_naive(lambda sender: slow.total(sender)),
        -by_naive(lambda sender: both.slow_way_back.to_logits(sender, "through-mlps")),
    )
    for one, other in zip(got, expected, strict=True):
        assert apart(one, other) <= 1e-6


NOT_RECOGNISED_BECAUSE = "its blocks were drawn by hand"


def refuse(*_: object) -> None:
    raise NotRecognisedError(NOT_RECOGNISED_BECAUSE)


@pytest.mark.complete
def test_an_audit_reads_the_same_with_hooks_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tiny(tmp_path)
    requests = [
        Request("path-effect", IOI),
        Request("path-effect", IOI, (("semantics", "direct"), ("direction", "clean-into-counterfactual"))),
        Request("path-effect", IOI, (("receiver", Receiver("q", QUERIES, "end")),)),
        Request("path-effect", IOI, (("receiver", Receiver("v", (Head(1, 0),), "subject-2")),)),
        Request("total-effect", IOI),
        Request("logit-difference", IOI),
        Request("direct-effect", IOI),
    ]

    def read() -> tuple[list[Any], list[warnings.WarningMessage]]:
        audited = Audited(folder, "float64")
        with exact_softmax(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values = [audited.audit.read(request, audited.checkpoint).values for request in requests]
        assert len({len(prompt.tokens) for prompt in audited.audit.prompts(IOI, audited.checkpoint).prompts}) > 1
        return values, [one for one in caught if one.category is SlowPatchingWarning]

    by_arithmetic, silence = read()
    assert silence == []
    monkeypatch.setattr("circuit_assertions.engine.backends.recognise", refuse)
    with_hooks, said = read()
    for one, other in zip(with_hooks, by_arithmetic, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * np.abs(other).max())
    (warning,) = said
    assert str(warning.message).startswith(f"{folder}: {NOT_RECOGNISED_BECAUSE}; ")
    assert says(str(warning.message), "hooks", "slower")
    assert len(read()[1]) == 1  # another model, another warning
