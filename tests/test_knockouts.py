"""Knock-outs are exact, joint, and by template: equal to hooks on Hugging Face's own modules."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from auditing import Audited, ioi
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_patching import NaivePatching, _put_in, exact_softmax
from tiny_models import save_tiny
from torch import Tensor
from transformers import AutoModelForCausalLM

from circuit_assertions.engine import MeasuringError
from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading
from circuit_assertions.measures.knockouts import RANDOM_SETS, over_random, ratio_to_first
from circuit_assertions.tasks import Prompt, PromptSet

TASK = ioi(prompts=12, templates=["Then, {first} and {second} had a lot of fun. {subject} said to"])
EVERYONE = tuple(Head(layer, head) for layer in range(3) for head in range(4))
SET = (Head(0, 1), Head(1, 0), Head(1, 3), Head(2, 2))


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma2", "gpt-neox"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Audited, NaivePatching]:
    folder = save_tiny(tmp_path_factory.mktemp("model"), request.param)
    fast = Audited(folder, "float64")
    prompts = fast.audit.prompts(TASK, fast.checkpoint).prompts
    with exact_softmax():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
        slow = NaivePatching(
            model,
            torch.tensor([prompt.tokens for prompt in prompts]),
            torch.tensor([prompt.counterfactual for prompt in prompts]),
            torch.tensor([prompt.right for prompt in prompts]),
            torch.tensor([prompt.wrong for prompt in prompts]),
        )
    return fast, slow


def read(fast: Audited, measure: str, heads: Sequence[Head], ablation: str) -> Reading:
    operands: dict[str, Any] = {"set": tuple(heads), "ablation": ablation}
    with exact_softmax():
        return fast.read(measure, TASK, **operands)


def left_without(slow: NaivePatching, prompts: Sequence[Prompt], heads: Sequence[Head], ablation: str) -> Tensor:
    """Logit difference with some heads replaced together, by one pass with hooks [prompts]."""
    templates = [prompt.template for prompt in prompts]
    with exact_softmax(), contextlib.ExitStack() as stack:
        for layer, block in enumerate(slow.blocks):
            mine = [head.head for head in heads if head.layer == layer]
            if not mine:
                continue

            def replaced(_module: Any, inputs: Any, layer: int = layer, block: Any = block, mine: Any = mine) -> Any:
                live, twins = inputs[0].clone(), slow.heads(block, slow.other.z[layer])
                into = slow.heads(block, live)  # [prompts, positions, heads, d_head]
                for row, template in enumerate(templates):
                    alike = [other for other, name in enumerate(templates) if name == template]
                    value = {"mean": twins[alike].mean(0), "resample": twins[row], "zero": torch.zeros_like(twins[row])}
                    into[row][:, mine] = value[ablation][:, mine]
                return (live, *inputs[1:])

            stack.callback(slow.output(block).register_forward_pre_hook(replaced).remove)
        return slow.difference(slow.keep(slow.tokens).logits)


@pytest.mark.parametrize("ablation", ["mean", "resample", "zero"])
def test_a_set_is_ablated_together(both: tuple[Audited, NaivePatching], ablation: str) -> None:
    fast, slow = both
    prompts = fast.audit.prompts(TASK, fast.checkpoint).prompts
    expected = slow.difference(slow.clean.logits) - left_without(slow, prompts, SET, ablation)
    got = read(fast, "ablation-effect", SET, ablation).values
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("ablation", ["mean", "resample", "zero"])
def test_faithfulness_is_what_the_set_alone_does_over_what_all_do(
    both: tuple[Audited, NaivePatching], ablation: str
) -> None:
    fast, slow = both
    prompts = fast.audit.prompts(TASK, fast.checkpoint).prompts
    outside = [head for head in EVERYONE if head not in SET]
    alone, whole = left_without(slow, prompts, outside, ablation), slow.difference(slow.clean.logits)
    reading = read(fast, "faithfulness", SET, ablation)
    assert reading.mean == pytest.approx(float(alone.mean() / whole.mean()), rel=1e-9)


def test_all_heads_are_wholly_faithful_and_their_absence_costs_nothing(both: tuple[Audited, NaivePatching]) -> None:
    fast, _ = both
    np.testing.assert_allclose(read(fast, "faithfulness", EVERYONE, "mean").values, 1.0, rtol=0, atol=1e-9)
    assert read(fast, "faithfulness-over-random", EVERYONE, "zero").mean == pytest.approx(0.0, abs=1e-9)


def test_order_within_the_set_does_not_matter(both: tuple[Audited, NaivePatching]) -> None:
    fast, _ = both
    one, other = (read(fast, "ablation-effect", heads, "mean").values for heads in (SET, SET[::-1]))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_heads_that_are_not_there_are_refused(both: tuple[Audited, NaivePatching]) -> None:
    fast, _ = both
    with pytest.raises(MeasuringError, match="has no head L7H0"):
        read(fast, "ablation-effect", [Head(7, 0)], "zero")


def test_an_unknown_ablation_is_refused_with_the_one_meant(both: tuple[Audited, NaivePatching]) -> None:
    fast, _ = both
    with pytest.raises(MeasuringError, match="did you mean 'resample'"):
        read(fast, "ablation-effect", SET, "resampled")


COLUMNS = st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed).normal(3.0, 1.0, (40, 2 + RANDOM_SETS)))


@given(columns=COLUMNS)
@settings(max_examples=25, deadline=None)
def test_a_ratio_of_means_keeps_its_mean(columns: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    means = columns.mean(axis=0)
    assert ratio_to_first(columns).mean() == pytest.approx(means[1] / means[0])
    assert over_random(columns).mean() == pytest.approx((means[1] - means[2:].mean()) / means[0])


def test_the_interval_of_a_ratio_covers_it() -> None:
    """Linearised values stand for the ratio: over 300 samples the interval misses it about one time in 20."""
    rng, hits = np.random.default_rng(3), 0
    for _ in range(300):
        whole = rng.normal(4.0, 2.0, 64)
        columns = np.stack([whole, 0.6 * whole + rng.normal(0.0, 1.0, 64)], axis=1)
        reading = Reading("faithfulness", "share", "value", ratio_to_first(columns))
        interval = reading.interval(reading.values)
        hits += interval.low <= 0.6 <= interval.high
    assert 0.91 <= hits / 300 <= 0.98


@given(templates=st.lists(st.sampled_from("abcde"), min_size=1, max_size=30), most=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_templates_are_never_parted(templates: list[str], most: int) -> None:
    prompts = PromptSet(tuple(Prompt((1, 2), "", {"end": 1}, template=name) for name in templates))
    batches = list(prompts.batches(most, whole_templates=True))
    assert sorted(index for indices, _ in batches for index in indices) == list(range(len(templates)))
    homes = [{prompt.template for prompt in batch} for _, batch in batches]
    assert sum(len(home) for home in homes) == len(set(templates))


def test_put_in_is_undone(both: tuple[Audited, NaivePatching]) -> None:
    """The slow side leaves no hook behind: a plain pass after all of this still says what it said at first."""
    _, slow = both
    with exact_softmax(), _put_in(slow.output(slow.blocks[0]), torch.zeros_like(slow.clean.z[0])):
        pass
    with exact_softmax():
        assert torch.equal(slow.keep(slow.tokens).logits, slow.clean.logits)


def test_the_folder_is_left_alone(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    read(Audited(folder, "float64"), "ablation-effect", SET, "mean")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
