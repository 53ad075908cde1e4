"""Whose outputs carry a change, in models with more components than are all tried: damage planted in one head."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from grafting_cases import opened
from hypothesis import given
from hypothesis import strategies as st
from patching_cases import TASK
from reference_model import word_tokenizer
from tiny_models import config_of, random_model

from circuit_assertions.components import Mlp
from circuit_assertions.diagnosis import expression
from circuit_assertions.diagnosis.expression import Expression, find_expression, surely_back
from circuit_assertions.diagnosis.graft_search import Grafts
from circuit_assertions.diagnosis.origin import Origin, find_origin
from circuit_assertions.engine import Model
from circuit_assertions.heads import Head
from circuit_assertions.measures import Interval
from circuit_assertions.measures.figures import Figure
from circuit_assertions.measures.intervals import Level
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.tasks import Prompt, PromptSet
from fixtures.planted import plant

LAYERS, HEADS = 6, 8  # 48 heads and 6 MLPs
PLANTED = [Head(0, 3), Head(0, 5), Head(1, 6), Head(2, 1)]


@dataclass(frozen=True)
class Broken:
    """A random model in which one head is damaged, its baseline, and prompts that the baseline answers as is right."""

    model: Model
    baseline: Model
    prompts: PromptSet
    origin: Origin

    def expressed(self, policy: Policy = DEFAULT) -> Expression:
        both = Grafts(self.model, self.baseline, self.prompts, DEFAULT)
        parts = self.origin.found.parts if self.origin.found else ()
        suspects = [part for part in parts if isinstance(part, (Head, Mlp))]
        return find_expression(self.model, self.baseline, self.prompts, both.lost, suspects, policy=policy)


@pytest.fixture(
    scope="module",
    params=[pytest.param(head, marks=[pytest.mark.complete] * (head != PLANTED[0])) for head in PLANTED],
    ids=str,
)
def broken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Head, Broken]:
    head, folder = request.param, tmp_path_factory.mktemp("planted")
    words = word_tokenizer()
    healthy = random_model(config_of("gpt2", len(words), n_layer=LAYERS, n_head=HEADS, n_embd=64))
    damaged = copy.deepcopy(healthy)
    plant(damaged, "noise", [head], strength=6.0)
    for name, weights in (("model", damaged), ("baseline", healthy)):
        weights.save_pretrained(folder / name)
        words.save_pretrained(folder / name)
    model, baseline = opened(folder / "model"), opened(folder / "baseline")
    prompts = answered(baseline, TASK.model_copy(update={"prompts": 64}).build(words))
    return head, Broken(model, baseline, prompts, find_origin(model, baseline, prompts))


def answered(model: Model, prompts: PromptSet) -> PromptSet:
    """The same prompts, with whatever answer the model prefers called right."""
    differences = Grafts(model, model, prompts, DEFAULT).now

    def turned(prompt: Prompt, difference: float) -> Prompt:
        return prompt if difference > 0 else replace(prompt, right=prompt.wrong, wrong=prompt.right)

    made = tuple(turned(prompt, value) for prompt, value in zip(prompts.prompts, differences, strict=True))
    return PromptSet(made, prompts.settings)


@pytest.mark.complete
def test_the_head_whose_output_brings_all_of_it_back_is_the_one_that_is_named(broken: tuple[Head, Broken]) -> None:
    head, damage = broken
    found = damage.expressed()
    assert found.through == (head,)
    assert next(iter(found.heals)) == head
    assert (found.healed.mean, *found.healed.interval) == pytest.approx((1.0, 1.0, 1.0))
    assert head in found.breaks


@pytest.mark.complete
def test_what_is_suspected_is_tried_though_it_does_not_matter_to_first_order(broken: tuple[Head, Broken]) -> None:
    """Every damaged head is found, also where no other component is tried."""
    head, damage = broken
    assert damage.expressed(DEFAULT.changed(expression_tried=0)).through == (head,)


def figure(low: float, mean: float, high: float) -> Figure:
    return Figure(mean, Interval(low, high))


EXACT = figure(1.0, 1.0, 1.0)
SURE = [
    (EXACT, figure(0.67, 1.42, 2.21)),
    (EXACT, figure(1.2, 1.5, 1.8)),
    (figure(0.9, 0.95, 0.99), figure(0.5, 1, 1.5)),
]


@pytest.mark.parametrize(("first", "second"), SURE)
def test_what_surely_brings_all_back_comes_before_what_may_bring_back_more(first: Figure, second: Figure) -> None:
    for values in ((first, second), (second, first)):
        assert max(values, key=surely_back) == first or surely_back(first) == surely_back(second) == 1.0


def shares(mean: float, spread: float) -> np.ndarray:
    """Shares [prompts] with this mean, and an interval about as wide as the spread."""
    return mean + spread * np.linspace(-5, 5, 64)


@given(st.permutations(range(5)))
def test_components_are_named_by_what_they_surely_bring_back_then_by_nearness_to_all(order: Sequence[int]) -> None:
    components = [Head(0, index) for index in range(5)]
    values = [shares(1.0, 0.0), shares(1.5, 0.01), shares(0.8, 0.0), shares(1.42, 1.0), shares(0.3, 0.0)]
    shuffled = {components[place]: values[place] for place in order}
    found = expression.Shares((shuffled,) * 3, Level.of_figures().among(len(order)))
    assert found.in_order() == list(found.shown()) == components
    fourth = found.shown()[components[3]]
    assert fourth.mean > 1.4 > 0.8 > fourth.interval.low > 0.3


def test_components_are_put_in_order_on_other_prompts_than_their_figures_are_from() -> None:
    first, second = Head(0, 0), Head(0, 1)
    search, report = ({first: shares(one, 0.0), second: shares(other, 0.0)} for one, other in ((0.9, 0.5), (0.4, 0.8)))
    found = expression.Shares((search, {}, report), Level.of_figures().among(2))
    assert {part: told.mean for part, told in found.shown().items()} == pytest.approx({first: 0.4, second: 0.8})
    assert next(iter(found.shown())) == first


@pytest.mark.parametrize(
    ("lows", "told"),
    [
        ((0.5, 0.91, 0.95, 0.99), 1),  # the first that surely brings back nine tenths
        ((0.5, 0.7, 0.8, 0.8), 2),  # none does: the best, and of the best the smallest
        ((1.0, 1.0, 1.0), 0),
        ((0.7, 0.6, 0.5), 0),
    ],
)
def test_the_fewest_components_are_told_that_bring_enough_back(lows: Sequence[float], told: int) -> None:
    for shift in (0.0, 1e-9, -1e-9):
        figures = {size: figure(low + shift * (-1) ** size, low + 0.2, low + 0.4) for size, low in enumerate(lows)}
        assert expression.fewest(figures, DEFAULT.expression_restores) == told
