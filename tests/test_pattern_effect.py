"""Effects of attention patterns alone, and of the residual stream: equal to hooks on Hugging Face's own modules."""

from __future__ import annotations

from typing import Any

import naive_effects
import pytest
import torch
from naive_patching import exact_softmax
from patching_cases import FURTHER, Both, apart, shared
from tiny_models import ARCHITECTURES
from torch import Tensor

from circuit_assertions.components import Residual
from circuit_assertions.heads import Head

_BOUND = {"gpt-j, parallel with one norm": 1e-5}  # takes its attention scores in float32 whatever the model's dtype
_BETWEEN_WAYS = {"llama": 1e-6, "qwen3": 1e-6, "gemma2": 1e-6}  # their RMSNorm rounds to float32, to either side
FORTH, BACK = "counterfactual-into-clean", "clean-into-counterfactual"
HEADS = (Head(0, 1), Head(1, 3), Head(2, 0), Head(1, 0))
STREAMS = (Residual(0), Residual(2), Residual(1))


family = pytest.mark.family(main="both", whole=("gpt2",), turns=("label", "direction"))


@pytest.fixture(scope="module", params=[*ARCHITECTURES, *FURTHER])
def both(request: pytest.FixtureRequest) -> Both:
    return shared(request.param)


def agree(both: Both, fast: Tensor, hooked: Tensor, slow: Tensor) -> None:
    bound = _BOUND.get(both.name, 1e-10)
    assert apart(fast, slow) <= bound
    assert apart(hooked, slow) <= max(bound, _BETWEEN_WAYS.get(both.name, 0))


@family
@pytest.mark.parametrize(("label", "direction"), [(None, FORTH), ("end", BACK), ("subject-2", FORTH)])
def test_a_pattern_of_the_other_run_over_live_values(both: Both, label: str | None, direction: Any) -> None:
    at = None if label is None else both.at(label)
    base, sign = (both.slow, 1) if direction == FORTH else (both.slow_way_back, -1)
    with exact_softmax():
        slow = sign * torch.stack([naive_effects.of_pattern(base, *head, at) for head in HEADS])
        fast, hooked = (way.towards(direction).of_patterns(HEADS, label) for way in (both.fast, both.hooked))
    agree(both, fast, hooked, slow)


@family
@pytest.mark.parametrize(("label", "direction"), [(None, FORTH), ("subject-2", FORTH), ("subject-2", BACK)])
def test_total_effects_of_the_residual_stream(both: Both, label: str | None, direction: Any) -> None:
    at = None if label is None else both.at(label)
    base, sign = (both.slow, 1) if direction == FORTH else (both.slow_way_back, -1)
    with exact_softmax():
        slow = sign * torch.stack([naive_effects.total_of_residual(base, one.layer, at) for one in STREAMS])
        fast, hooked = (way.towards(direction).total(STREAMS, label) for way in (both.fast, both.hooked))
    agree(both, fast, hooked, slow)


@family
def test_the_whole_stream_of_the_other_run_is_the_other_run(both: Both) -> None:
    for way in (both.fast, both.hooked):
        with exact_softmax():
            effects = way.total(STREAMS)
        with torch.no_grad():
            other = way.difference - way.towards("clean-into-counterfactual").difference
        for effect in effects:
            assert apart(effect, other) <= 1e-5


@family
def test_kinds_of_senders_do_not_get_into_each_others_way(both: Both) -> None:
    with exact_softmax():
        mixed = both.fast.total([Residual(1), Head(1, 2), Head(0, 3), Residual(0)], "subject-2")
        alone = torch.cat([both.fast.total([one], "subject-2") for one in (Residual(1), Head(1, 2), Head(0, 3))])
    assert torch.allclose(mixed[:3], alone, rtol=0, atol=1e-9)
