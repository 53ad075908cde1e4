"""Answers that are sets of tokens, and probabilities of them: exact, for every effect, in both ways of patching."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from grafting_cases import Two
from naive_answers import NaiveSets, Sets, compared
from naive_attribution import LOGITS, NaiveAttribution
from naive_effects import of_pattern, to_writes
from naive_patching import exact_softmax
from patching_cases import NOT_RECOGNISED, SENDERS, Both, apart, by_naive, naive, shared
from torch import Tensor
from transformers import AutoModelForCausalLM

from circuit_assertions.engine import SlowPatchingWarning, open_patching
from circuit_assertions.engine.attribution import Attribution
from circuit_assertions.engine.backends import AnyPatching
from circuit_assertions.engine.grafting import Grafting
from circuit_assertions.engine.readout import Readout
from circuit_assertions.engine.slopes import slopes
from circuit_assertions.heads import Head
from circuit_assertions.tasks import METRICS, Answers, Prompt, PromptSet

BY_HOOKS = "falcon, attention biased by distance"
METRIC_NAMES = ("logit-difference", "probability-difference")
HEADS = [sender for sender in SENDERS if isinstance(sender, Head)]
SOME: tuple[list[Head], ...] = ([Head(0, 1)], [Head(2, 0), Head(0, 3)], [], [Head(1, 1), Head(1, 2), Head(2, 2)])


def with_sets(prompts: Sequence[Prompt], metric: str, likely: Sequence[Sequence[int]] = ()) -> tuple[Prompt, ...]:
    """The same prompts with one to three right tokens and one to four wrong ones, of various weights.

    Args:
        likely: for each prompt, tokens to take first, so that probabilities are not all small.
    """
    made = []
    for number, prompt in enumerate(prompts):
        right, wrong = prompt.right.token, prompt.wrong.token
        listed = dict.fromkeys([*(likely[number] if likely else ()), *range(2, 12)])
        others = [token for token in listed if token not in (right, wrong)]
        ours, theirs = (right, *others[: number % 3]), (wrong, *others[3 : 3 + number % 4])
        answers = [
            Answers(tokens, (1.0, 0.25, 0.5, 0.125)[: len(tokens)] if number else (1.0,) * len(tokens))
            for tokens in (ours, theirs)
        ]
        made.append(dataclasses.replace(prompt, right=answers[0], wrong=answers[1], metric=METRICS[metric]))
    return tuple(made)


def sets_of(prompts: Sequence[Prompt]) -> Sets:
    return [
        (dict(zip(one.right.tokens, one.right.weights, strict=True)),
         dict(zip(one.wrong.tokens, one.wrong.weights, strict=True)))
        for one in prompts
    ]  # fmt: skip


class Asked:
    """One random model, asked for sets of answers, by the project and slowly."""

    def __init__(self, name: str, metric: str, folder: Path) -> None:
        # That a model is measured with hooks is told once for each model.
        self.both, self.metric = Both(name, folder) if name == BY_HOOKS else shared(name), metric
        base, readout = self.both.fast.base if name != BY_HOOKS else None, self.both.model.readout
        likely = () if base is None else readout.all_logits(base.final[:, -1]).topk(3).indices.tolist()
        self.prompts = with_sets(self.both.prompts.prompts, metric, likely)
        self.bound = 1e-6 if name == BY_HOOKS else 1e-10

    @cached_property
    def way(self) -> AnyPatching:
        by_hooks = self.both.name == BY_HOOKS
        told = pytest.warns(SlowPatchingWarning) if by_hooks else contextlib.nullcontext()
        with exact_softmax(), told:
            return open_patching(self.both.model, self.prompts)

    @cached_property
    def slow(self) -> NaiveSets:
        model = AutoModelForCausalLM.from_pretrained(
            self.both.folder, dtype=torch.float64, attn_implementation="eager"
        ).eval()
        tokens, twins = (
            torch.tensor([getattr(prompt, name) for prompt in self.prompts]) for name in ("tokens", "counterfactual")
        )
        with exact_softmax():
            return NaiveSets(model, tokens, twins, sets_of(self.prompts), self.metric)

    def agrees(self, fast: Callable[[AnyPatching], Tensor], expected: Tensor) -> None:
        with exact_softmax(), torch.no_grad():
            got = fast(self.way)
        scale = float(expected.abs().max())
        assert scale > 1e-5, "the effects are too small to tell right from wrong"
        assert float((got - expected).abs().max()) <= self.bound * max(scale, 1e-3)


family = pytest.mark.family(main="name", whole=("gpt2",), turns=("semantics", "which", "label"))


@pytest.fixture(scope="module", params=["gpt2", "llama", BY_HOOKS])
def name(request: pytest.FixtureRequest) -> str:
    assert BY_HOOKS in NOT_RECOGNISED
    return str(request.param)


@pytest.fixture(scope="module", params=METRIC_NAMES)
def answered(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def asked(name: str, answered: str, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked(name, answered, tmp_path_factory.mktemp("model"))


def test_the_answer_metric_itself(asked: Asked) -> None:
    asked.agrees(lambda way: way.difference, asked.slow.difference(asked.slow.clean.logits))
    assert len({len(prompt.right.tokens) for prompt in asked.prompts}) > 1


@family
@pytest.mark.parametrize("semantics", ["through-mlps", "direct"])
def test_paths_to_the_logits(asked: Asked, semantics: Any) -> None:
    expected = by_naive(lambda sender: asked.slow.to_logits(sender, semantics))
    asked.agrees(lambda way: way.to_logits(SENDERS, semantics), expected)


@family
@pytest.mark.parametrize(("which", "label"), [("q", "end"), ("k", "subject-2"), ("v", "subject-2")])
def test_paths_to_receivers(asked: Asked, which: Any, label: str) -> None:
    receivers = [Head(1, 0), Head(2, 0)] if which == "q" else [*asked.both.group(1), *asked.both.group(2)]
    at = asked.both.at(label)
    expected = by_naive(lambda sender: asked.slow.to_inputs(sender, which, [(1, 0), (2, 0)], at, "direct"))
    asked.agrees(lambda way: way.to_inputs(SENDERS, which, receivers, label, "direct"), expected)


@family
def test_what_receivers_write(asked: Asked) -> None:
    slow, receivers, at = asked.slow, [Head(1, 2), Head(2, 1)], asked.both.at("end")
    if "writes" in asked.both.model.limits or "residual" in asked.both.model.limits:
        pytest.skip("writes of this model are not measured")
    expected = by_naive(lambda sender: to_writes(slow, sender, "q", [(1, 2), (2, 1)], at, "through-mlps"))
    asked.agrees(lambda way: way.to_writes(SENDERS, "q", receivers, "end", "through-mlps"), expected)


@family
@pytest.mark.parametrize("label", [None, "subject-2"])
def test_total_effects(asked: Asked, label: str | None) -> None:
    at = None if label is None else asked.both.at(label)
    asked.agrees(lambda way: way.total(SENDERS, label), by_naive(lambda sender: asked.slow.total(sender, at)))


@family
def test_effects_of_patterns(asked: Asked) -> None:
    with exact_softmax(), torch.no_grad():
        expected = torch.stack([of_pattern(asked.slow, layer, head, None) for layer, head in HEADS])
    asked.agrees(lambda way: way.of_patterns(HEADS), expected)


@family
def test_ablations_of_sets_of_heads(asked: Asked) -> None:
    slow = asked.slow

    def without(heads: Sequence[Head]) -> Tensor:
        with exact_softmax(), torch.no_grad(), contextlib.ExitStack() as stack:
            for layer, block in enumerate(slow.blocks):
                own = [head.head for head in heads if head.layer == layer]

                def put(_: Any, inputs: Any, layer: int = layer, block: Any = block, own: Any = own) -> Any:
                    live = inputs[0].clone()
                    slow.heads(block, live)[:, :, own] = slow.heads(block, slow.other.z[layer])[:, :, own]
                    return (live, *inputs[1:])

                stack.callback(slow.output(block).register_forward_pre_hook(put).remove)
            return slow.difference(slow.keep(slow.tokens).logits)

    expected = torch.stack([without(heads) for heads in SOME])
    asked.agrees(lambda way: way.ablated(SOME, way.other.head_outputs), expected)


@family
def test_the_models_own_end_says_the_same(asked: Asked) -> None:
    """Where a model's end is run on changed rows, instead of being computed."""
    rows = torch.stack([asked.way.base.final[:, -1], asked.way.other.final[:, -1]])  # [2, prompts, d_model]
    layout = asked.both.model.layout
    with torch.no_grad():
        computed, run = (Readout(layout, runs).difference(rows, asked.prompts) for runs in (False, True))
    assert computed.shape == (2, len(asked.prompts))
    assert apart(run, computed) <= 1e-6


@family
def test_however_the_work_is_cut_the_answers_are_the_same(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, readout = asked.way.base.final[:, -1], asked.both.model.readout
    with torch.no_grad():
        whole = readout.difference(rows, asked.prompts)
        monkeypatch.setenv("CIRCUIT_ASSERTIONS_MEMORY", "1B")
        torch.testing.assert_close(readout.difference(rows, asked.prompts), whole, rtol=0, atol=1e-12)


class _AttributedSets(NaiveAttribution):
    def __init__(self, asked: Asked) -> None:
        self.asked, raw = asked, asked.slow
        super().__init__(raw.model, raw.tokens, raw.twins, raw.right, raw.wrong)

    def difference(self, logits: Tensor) -> Tensor:
        return self.asked.slow.difference(logits)


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_edge_scores_are_gradients_of_the_metric(metric: str, tmp_path: Path) -> None:
    asked = Asked("gpt2", metric, tmp_path)
    expected = _AttributedSets(asked).scores(2)
    edges = Attribution.of(asked.way, 2)
    (scores,) = edges.scores(["logits"])  # [prompts, senders, 1]
    got = torch.stack([scores[:, edges.graph.senders.index(sender), 0] for sender in SENDERS])
    assert apart(got, torch.stack([expected[naive(sender), LOGITS] for sender in SENDERS])) < 1e-9


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_grafts_are_read_by_the_metric_and_so_are_their_slopes(metric: str, tmp_path: Path) -> None:
    two = Two("gpt2", tmp_path)
    prompts = PromptSet(with_sets(two.prompts.prompts, metric), two.prompts.settings)

    def slow(number: int) -> Tensor:
        raw = two.raw(number)
        with torch.no_grad(), exact_softmax():
            logits = [raw(torch.tensor([one.tokens])).logits[0, -1] for one in prompts.prompts]
        return torch.stack(
            [compared(metric, row, *sets) for row, sets in zip(logits, sets_of(prompts.prompts), strict=True)]
        )

    into, source = two.models
    with exact_softmax():
        grafting = Grafting(into, source, prompts)
        torch.testing.assert_close(grafting.difference(), slow(0), rtol=0, atol=1e-10)
        torch.testing.assert_close(grafting.difference(grafting.parts), slow(1), rtol=0, atol=1e-10)
        # A step of a thousandth towards the source changes the metric by a thousandth of the slope.
        part, before = grafting.changed[0], grafting.difference().mean()
        (whole,) = slopes(into, source, prompts, [part]).values()
        own, others = grafting._own[part], grafting._others[part]
        with torch.no_grad():
            for one, other in zip(own, others, strict=True):
                one.copy_(one + 1e-5 * (other - one))
        moved = Grafting(into, source, prompts).difference().mean() - before
    assert abs(whole) > 1e-6
    assert float(moved) == pytest.approx(1e-5 * whole, rel=1e-3)
