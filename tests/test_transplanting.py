"""Transplants of activations between two models: equal to hooks on Hugging Face's own modules."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import opened as opened_with
from grafting_cases import Two
from naive_patching import NaivePatching, exact_softmax
from patching_cases import apart
from torch import Tensor

from circuit_assertions.checkpoints import Opening
from circuit_assertions.components import Mlp
from circuit_assertions.engine import Model, SlowPatchingWarning
from circuit_assertions.engine.arithmetic import Block
from circuit_assertions.engine.cache import Run, capture
from circuit_assertions.engine.hooked import HookedPatching
from circuit_assertions.engine.layout import Layout
from circuit_assertions.engine.recognition import recognise
from circuit_assertions.engine.rows import Sender
from circuit_assertions.engine.transplanting import Transplanting
from circuit_assertions.engine.two_models import TwoModels
from circuit_assertions.heads import Head

SETS: tuple[tuple[Sender, ...], ...] = (
    (Head(0, 1),),
    (Head(2, 3),),
    (Mlp(0),),
    (Mlp(2),),
    (),
    (Head(0, 0), Head(0, 2), Head(1, 1)),
    (Mlp(1), Head(1, 3), Head(2, 0), Mlp(0)),
    (*(Head(layer, head) for layer in range(3) for head in range(4)), Mlp(0), Mlp(1), Mlp(2)),
)
HEADS = (Head(0, 1), Head(1, 3), Head(2, 0), Head(1, 0))
TOGETHER = ((Head(0, 1), Head(2, 0)), (Head(1, 0), Head(1, 3), Head(2, 2)))
CLAMPED = "olmo, clamped attention"
SHAPES = ("gpt2", "llama", "gemma2", "gpt-neox", "opt", "gpt-j, parallel with one norm", "falcon, multi-query", CLAMPED)
STEP = 3e-5  # between two models: above what float32 in a norm rounds off, below what bends or meets a kink
# Their RMSNorm rounds to float32 whatever the model's dtype; GPT-J takes its attention scores in float32.
_BOUND = dict.fromkeys(("llama", "gemma2", "gpt-j, parallel with one norm"), 1e-5)


class Slow:
    """The two models as transformers opens them, and what each puts out on the prompts."""

    def __init__(self, two: Two) -> None:
        rows = two.prompts.prompts
        tokens = torch.tensor([row.tokens for row in rows])
        answers = torch.tensor([row.right.token for row in rows]), torch.tensor([row.wrong.token for row in rows])
        self.into, self.source = (NaivePatching(two.raw(number), tokens, tokens, *answers) for number in (0, 1))
        if two.name == "gemma2":  # what its MLP adds to the residual stream is behind a norm of its own
            for each in (self.into, self.source):
                each.wiring = dataclasses.replace(each.wiring, mlp="post_feedforward_layernorm")
                each.clean = each.keep(tokens)

    def of_set(self, chosen: Collection[Sender]) -> Tensor:
        """Logit difference gained when the source's heads write in the place of these, and MLPs likewise [prompts]."""
        with contextlib.ExitStack() as stack:
            for layer in range(len(self.into.blocks)):
                heads = [one.head for one in chosen if isinstance(one, Head) and one.layer == layer]
                if heads:
                    module = self.into.output(self.into.blocks[layer])
                    handle = module.register_forward_hook(self.writing(layer, heads))
                    stack.callback(handle.remove)
                if Mlp(layer) in chosen:
                    module = self.into.blocks[layer].get_submodule(self.into.wiring.mlp)
                    put = self.source.clean.mlp[layer]
                    stack.callback(module.register_forward_hook(lambda _m, _i, _o, put=put: put.clone()).remove)
            return -self.into.lost(self.into.keep(self.into.tokens).logits)

    def writing(self, layer: int, heads: Sequence[int]) -> Callable[..., Tensor]:
        """The attention's output with some heads silent, and what the source's own projection makes of its heads."""
        other = self.source.blocks[layer]
        theirs = self.source.clean.z[layer].clone()
        alone = torch.zeros_like(theirs)
        self.source.heads(other, alone)[:, :, heads] = self.source.heads(other, theirs)[:, :, heads]
        project = self.source.output(other)
        with torch.no_grad():
            written = project(alone) - project(torch.zeros_like(alone))  # less the bias, which belongs to no head

        def hook(module: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
            silent = inputs[0].clone()
            self.into.heads(self.into.blocks[layer], silent)[:, :, heads] = 0
            result: Tensor = module.forward(silent) + written
            return result

        return hook

    def of_patterns(self, heads: Sequence[Head]) -> Tensor:
        """Logit difference gained when heads attend as they do in the source, to their own live values [prompts]."""
        into = self.into
        with torch.no_grad():
            attentions = self.source.model(into.tokens, use_cache=False, output_attentions=True).attentions
        put: dict[int, Tensor] = {}
        with contextlib.ExitStack() as stack:
            for layer in sorted({head.layer for head in heads}):
                block, own = into.blocks[layer], [head for head in heads if head.layer == layer]
                # What lies below is as it was put in: these values are read from a run with it.
                values = into.keep(into.tokens, "v", [layer]).tapped[layer]  # [prompts, positions, groups, d_head]
                if getattr(into.model.config, "clip_qkv", None):  # OLMo's attention takes what was projected clamped
                    values = values.clamp(-into.model.config.clip_qkv, into.model.config.clip_qkv)
                share = into.model.config.num_attention_heads // values.shape[2]
                z = into.keep(into.tokens).z[layer].clone()
                for _, head in own:
                    into.heads(block, z)[:, :, head] = attentions[layer][:, head] @ values[:, :, head // share]
                put[layer] = z
                hook = into.output(block).register_forward_pre_hook(
                    lambda _m, inputs, layer=layer: (put[layer], *inputs[1:])
                )
                stack.callback(hook.remove)
            return -into.lost(into.keep(into.tokens).logits)


family = pytest.mark.family(main="two", whole=("gpt2",))


@pytest.fixture(scope="module", params=SHAPES)
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Two:
    return Two(request.param, tmp_path_factory.mktemp("models"))


@pytest.fixture
def with_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    def hooked(model: Model, prompts: Any, _blocks: Any, base: Any, other: Any) -> HookedPatching:
        return HookedPatching(model, tuple(prompts), base, other)

    monkeypatch.setattr("circuit_assertions.engine.two_models.patching_of", hooked)


def agrees(two: Two) -> None:
    transplanting = Transplanting(*two.models, two.prompts)
    with exact_softmax():
        slow = Slow(two)
        outputs = torch.stack([slow.of_set(chosen) for chosen in SETS])
        patterns = torch.stack([slow.of_patterns([head]) for head in HEADS])
        together = torch.stack([slow.of_patterns(heads) for heads in TOGETHER])
        assert apart(transplanting.outputs(SETS), outputs) <= _BOUND.get(two.name, 1e-10)
        assert apart(transplanting.patterns(HEADS), patterns) <= _BOUND.get(two.name, 1e-10)
        assert apart(transplanting.patterns_together(TOGETHER), together) <= _BOUND.get(two.name, 1e-10)


@pytest.mark.sample(4)
def test_transplants_are_what_hooks_make_of_them(two: Two) -> None:
    agrees(two)


@family
@pytest.mark.usefixtures("with_hooks")
def test_the_slow_way_says_the_same(two: Two) -> None:
    agrees(two)


@family
def test_a_model_brings_itself_nothing(two: Two) -> None:
    for model in two.models:
        itself = Transplanting(model, model, two.prompts)
        assert not itself.outputs(SETS).any()
        assert not itself.patterns(HEADS).any()
        assert not itself.patterns_together(TOGETHER).any()


def test_a_shape_that_is_not_recognised(tmp_path: Path) -> None:
    two = Two("falcon, attention biased by distance", tmp_path)
    with pytest.warns(SlowPatchingWarning):
        agrees(two)


def test_half_precision_transplants_what_the_source_puts_out(tmp_path: Path) -> None:
    two = Two("llama", tmp_path)
    halves = [Model.of(opened_with(folder, Opening(device="cpu", dtype="bfloat16"))) for folder in two.folders]
    got = Transplanting(halves[0], halves[1], two.prompts).outputs(SETS)
    expected = Transplanting(*two.models, two.prompts).outputs(SETS)
    assert apart(got, expected) <= 0.05
    assert not Transplanting(halves[0], halves[0], two.prompts).outputs(SETS).any()


@family
def test_the_other_way_round_shares_the_runs_and_says_the_same(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Transplanting(*two.models, two.prompts)
    there.outputs(SETS)
    expected = Transplanting(two.models[1], two.models[0], two.prompts).outputs(SETS)

    def run_again(*_: object) -> None:
        raise AssertionError("both models have been run already")

    monkeypatch.setattr("circuit_assertions.engine.two_models.capture", run_again)
    assert apart(there.turned.outputs(SETS), expected) <= _BOUND.get(two.name, 1e-10)


@family
def test_slopes_are_what_small_transplants_do(two: Two) -> None:
    into, source = two.models[0], opened_with(two.folders[0], Opening(device="cpu", dtype="float64"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in source.bridge.original_model.parameters():
            weight += STEP * torch.randn(weight.shape, generator=generator)
    near = Transplanting(into, Model.of(source), two.prompts)
    slopes = near.slopes()
    for found, exact in (
        (slopes.outputs, near.outputs([[one] for one in slopes.outputs])),
        (slopes.patterns, near.patterns(list(slopes.patterns))),
    ):
        assert apart(torch.tensor(list(found.values())).double() / STEP, exact.mean(1) / STEP) <= 5e-2


@family
def test_slopes_the_other_way_round_are_those_of_the_models_changed_about(two: Two) -> None:
    there = Transplanting(*two.models, two.prompts)
    back, expected = there.turned.slopes(), Transplanting(two.models[1], two.models[0], two.prompts).slopes()
    assert back.outputs == pytest.approx(expected.outputs, rel=1e-9)
    assert back.patterns == pytest.approx(expected.patterns, rel=1e-9)
    assert there.slopes().outputs != pytest.approx(expected.outputs, rel=1e-2)


def test_half_precision_widens_each_run_once_for_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = Two("llama", tmp_path)
    halves = [Model.of(opened_with(folder, Opening(device="cpu", dtype="bfloat16"))) for folder in two.folders]
    recognised = []

    def counting(layout: Layout, run: Run, likely: Sequence[Block]) -> list[Block]:
        recognised.append(layout)
        return recognise(layout, run, likely)

    monkeypatch.setattr("circuit_assertions.engine.backends.recognise", counting)
    (met,) = TwoModels(halves[0], halves[1], two.prompts).batches()
    assert recognised == [model.layout for model in halves]
    into_one, into_other = met.patchings
    for base, other in ((into_one.base, into_other.other), (into_other.base, into_one.other)):
        assert base.final.dtype is torch.float32
        for name in ("residual", "head_outputs", "mlp_writes", "patterns"):
            assert all(one is same for one, same in zip(getattr(base, name), getattr(other, name), strict=True))


@family
def test_runs_that_are_too_large_to_keep_are_taken_again(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Transplanting(*two.models, two.prompts)
    short = Transplanting(*two.models, two.prompts)
    monkeypatch.setattr("circuit_assertions.engine.pass_cache.budget", lambda device: 0)
    taken = []

    def counting(model: Model, tokens: Tensor) -> Run:
        taken.append(tokens)
        return capture(model, tokens)

    monkeypatch.setattr("circuit_assertions.engine.two_models.capture", counting)
    first = short.outputs(SETS)
    once = len(taken)
    assert torch.equal(short.outputs(SETS), first)
    assert len(taken) == 2 * once > 0
    monkeypatch.undo()
    assert torch.equal(expected.outputs(SETS), first)
