"""Passes: what is read does not depend on who else reads, how many prompts run together, or in what order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from auditing import Audited, given, ioi, repeated
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from said import says
from tiny_models import ARCHITECTURES, save_tiny
from torch import Tensor

from circuit_assertions.engine import (
    Layout,
    MeasuringError,
    Model,
    Readout,
    SlowPatchingWarning,
    Wanted,
    passes,
    run_passes,
)
from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES, Measure, Receiver
from circuit_assertions.request import Request
from circuit_assertions.tasks import PromptSet, Task

IOI = ioi(prompts=12)
NO_ANSWER = given({"clean": "Then, the store had a", "right": "ring"})
REPEATED = repeated(prompts=4, length=6)


def request_of(spec: Measure) -> Request:
    """A measure asked with everything that it must be told: positions, receiving heads, a set."""
    keys = spec.operands.by_key()
    operands: dict[str, Any] = {"query": "end", "key": "subject-1"} if "query" in keys else {}
    if "receiver" in keys and keys["receiver"].is_required():
        operands["receiver"] = Receiver("q", (Head(1, 2), Head(2, 3)), "end")
    if spec.joint:
        operands["set"] = (Head(1, 0), Head(2, 3))
    return Request(spec.name, REPEATED if "repeat" in spec.needs else IOI, tuple(operands.items()))


OTHERS = frozenset({"moved-answer"})  # what neither of these tasks offers
REQUESTS = tuple(request_of(spec) for spec in MEASURES.values() if not spec.compares and not spec.needs & OTHERS)
OF_IOI = tuple(request for request in REQUESTS if request.task == IOI)
SEARCHING = tuple(
    request for request in OF_IOI if {"search", "ranked-by"} & {*MEASURES[request.measure].operands.by_key()}
)
BY_GRADIENT = tuple(request for request in OF_IOI if MEASURES[request.measure].approximate)
AT_ONCE = tuple(request for request in OF_IOI if request not in (*SEARCHING, *BY_GRADIENT))


@pytest.fixture(scope="module", params=[pytest.param("gpt2", marks=pytest.mark.complete), "gemma2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def exact(folder: Path) -> Audited:
    return Audited(folder, "float64")


@pytest.fixture
def fresh(folder: Path) -> Audited:
    return Audited(folder, "float64")


def values_of(audited: Audited, requests: tuple[Request, ...] = REQUESTS) -> list[Any]:
    return [audited.audit.read(request, audited.checkpoint).values for request in requests]


def count_forwards(audited: Audited) -> list[int]:
    """Batch sizes of the forward passes that run from now on."""
    bridge, sizes = audited.audit.model(audited.checkpoint).bridge, []
    run = bridge.run_with_hooks

    def counting(tokens: Tensor, **options: Any) -> Any:
        sizes.append(len(tokens))
        return run(tokens, **options)

    bridge.run_with_hooks = counting
    return sizes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_claimed_architecture_passes_the_opening_checks(architecture: str, dtype: str, tmp_path: Path) -> None:
    audited = Audited(save_tiny(tmp_path, architecture), dtype)
    assert audited.audit.model(audited.checkpoint).limits == {}


@pytest.mark.parametrize("budget", [pytest.param(0, marks=pytest.mark.complete), 200_000])
def test_batch_size_changes_nothing(
    fresh: Audited, exact: Audited, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = values_of(exact)
    monkeypatch.setattr(passes, "budget", lambda device: budget)
    fresh.plan(*REQUESTS)
    sizes = count_forwards(fresh)
    for got, wanted in zip(values_of(fresh), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)
    assert set(sizes) == {1} if budget == 0 else max(sizes) in (2, 4)


def test_a_small_budget_means_one_prompt_at_a_time(fresh: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "budget", lambda device: 0)
    sizes = count_forwards(fresh)
    fresh.read("logit-difference", IOI)
    assert sizes == [1] * 12


@for_all(order=st.permutations(range(12)))
@settings(max_examples=4, deadline=None)
def test_order_of_prompts_changes_nothing(exact: Audited, order: list[int]) -> None:
    model = exact.audit.model(exact.checkpoint)
    prompts = exact.audit.prompts(IOI, exact.checkpoint)
    shuffled = PromptSet(tuple(prompts.prompts[index] for index in order), prompts.settings)
    straight, mixed = (_ends(model, each) for each in (prompts, shuffled))
    torch.testing.assert_close(mixed, straight[list(order)], rtol=0, atol=1e-10)


def _ends(model: Model, prompts: PromptSet) -> Tensor:
    """Final residual at `end` [prompts, d_model]."""
    ends = torch.empty(len(prompts), model.layout.d_model, dtype=torch.float64)
    for taken in run_passes(model, prompts, Wanted(end_writes=True)):
        assert taken.final_residual is not None
        ends[list(taken.indices)] = taken.final_residual
    return ends


@pytest.mark.complete
def test_shared_passes_say_what_lonely_ones_say(fresh: Audited, exact: Audited) -> None:
    fresh.plan(*REQUESTS)
    for request, together, alone in zip(REQUESTS, values_of(fresh), values_of(exact), strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-10, atol=1e-12, err_msg=request.measure)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("planned", "passes_a_batch"),
    [
        pytest.param(AT_ONCE, 2, id="clean and counterfactual"),
        pytest.param(SEARCHING, 2 + 2, id="search and reading"),
        pytest.param(BY_GRADIENT, 2 + 5, id="gradients"),
    ],
)
def test_forward_passes_a_batch_for_everything_planned(
    fresh: Audited, planned: tuple[Request, ...], passes_a_batch: int
) -> None:
    fresh.plan(*planned)
    sizes = count_forwards(fresh)
    values_of(fresh, planned)
    lengths = {len(prompt.tokens) for prompt in fresh.audit.prompts(IOI, fresh.checkpoint).prompts}
    assert len(sizes) == passes_a_batch * len(lengths)
    assert sum(sizes) == passes_a_batch * len(fresh.audit.prompts(IOI, fresh.checkpoint))


def test_without_path_effects_the_counterfactual_is_not_run(fresh: Audited) -> None:
    sizes = count_forwards(fresh)
    fresh.read("logit-difference", IOI)
    assert sum(sizes) == len(fresh.audit.prompts(IOI, fresh.checkpoint))


def test_what_was_read_is_remembered(fresh: Audited) -> None:
    first = fresh.read("direct-effect", IOI)
    sizes = count_forwards(fresh)
    chosen = (Head(2, 1), Head(0, 3))
    again = fresh.read("direct-effect", IOI, *chosen)
    assert sizes == []
    assert again.heads == chosen
    np.testing.assert_array_equal(again.values, np.stack([first.of_head(head) for head in chosen], axis=1))


def test_heads_asked_one_after_another_are_those_asked_together(fresh: Audited, exact: Audited) -> None:
    for head in (Head(2, 1), Head(0, 3)):
        one = fresh.read("copy-score", IOI, head).values[:, 0]
        np.testing.assert_array_equal(one, exact.read("copy-score", IOI).of_head(head))


def test_the_unembedding_sees_the_targets_only(fresh: Audited) -> None:
    bridge = fresh.audit.model(fresh.checkpoint).bridge
    seen: list[int] = []
    bridge.unembed.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    fresh.read("loss", IOI)
    assert set(seen) == {1}
    seen.clear()
    fresh.read("loss", REPEATED)
    assert set(seen) == {5}  # six tokens repeated: the first of the repetition cannot be foretold
    seen.clear()
    fresh.read("attention", IOI, query="end", key="subject-1")
    assert set(seen) == {1}  # attention asks for no logits at all: one row is the least that the model can form


def damaged_layout(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Any], Any]) -> None:
    original = getattr(Layout, name)
    monkeypatch.setattr(Layout, name, lambda layout, layer: change(original(layout, layer)))


def test_a_model_whose_writes_do_not_add_up(fresh: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged_layout(monkeypatch, "W_O", lambda weights: 1.01 * weights)
    assert set(fresh.audit.model(fresh.checkpoint).limits) == {"writes"}
    refused = ("direct-effect", "copy-score", "negative-copy-score", "copy-in-context")
    fresh.plan(*(request for request in REQUESTS if request.measure in (*refused, "attention")))
    for measure in refused:
        with pytest.raises(MeasuringError, match=rf"{measure} .*\bwrites .*\bblock 0\b"):
            fresh.read(measure, IOI)
    assert np.isfinite(fresh.read("attention", IOI, query="end", key="subject-1").values).all()


def test_a_model_that_norms_its_attention_output_unbeknownst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "attention_post_norm", lambda layout, layer: None)
    audited = Audited(save_tiny(tmp_path, "gemma2"), "float64")
    limits = audited.audit.model(audited.checkpoint).limits
    assert set(limits) == {"writes"}
    assert says(limits["writes"].reason, "block 0", "attention output")


def test_a_model_that_hides_its_attention(fresh: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "pattern", staticmethod(lambda layer: f"blocks.{layer}.attn.hook_nothing"))
    assert set(fresh.audit.model(fresh.checkpoint).limits) == {"patterns"}
    with pytest.raises(MeasuringError, match=r"induction-score .*\bblock 0 .*attention pattern"):
        fresh.read("induction-score", REPEATED)
    assert fresh.read("loss", REPEATED).mean > 0
    assert np.abs(fresh.read("direct-effect", IOI).values).max() > 0


def test_a_model_that_adds_more_than_attention_and_mlp(fresh: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mlp_write"
    monkeypatch.setattr(Layout, name, staticmethod(lambda layer: f"blocks.{layer}.hook_attn_out"))
    assert set(fresh.audit.model(fresh.checkpoint).limits) == {"residual"}
    with pytest.raises(MeasuringError, match="residual stream"):
        fresh.read("direct-effect", IOI)


def test_a_model_whose_end_is_another(fresh: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    all_logits = Readout.all_logits
    monkeypatch.setattr(Readout, "all_logits", lambda readout, rows: all_logits(readout, rows) + 1.0)
    limits = fresh.audit.model(fresh.checkpoint).limits
    assert set(limits) == {"readout"}
    assert says(limits["readout"].reason, "final norm", "unembedding", "logits")


@pytest.mark.parametrize(
    "measure", ["logit-difference", "direct-effect", "path-effect", "write-effect", "copy-score", "copy-in-context"]
)
@pytest.mark.complete
def test_where_the_end_is_not_known_the_models_own_is_run(
    exact: Audited, fresh: Audited, measure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (request,) = (request for request in OF_IOI if request.measure == measure)
    expected = exact.audit.read(request, exact.checkpoint).values
    monkeypatch.setattr(Readout, "_transformed", lambda readout, logits: 2.0 * logits)
    assert fresh.audit.model(fresh.checkpoint).limits == {}
    assert fresh.audit.model(fresh.checkpoint).readout.runs
    with pytest.warns(SlowPatchingWarning) if measure in ("path-effect", "write-effect") else nullcontext():
        got = fresh.audit.read(request, fresh.checkpoint).values
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def damage(audited: Audited, layer: int) -> None:
    """Let the MLP of a layer write NaN, behind the opening checks."""
    bridge = audited.audit.model(audited.checkpoint).bridge
    bridge.blocks[layer].mlp.register_forward_hook(lambda module, inputs, output: output * float("nan"))


def test_nan_is_an_error(fresh: Audited) -> None:
    damage(fresh, layer=0)
    fresh.plan(*REQUESTS)
    for request in (*REQUESTS, *REQUESTS):  # the second time from memory
        with pytest.raises(MeasuringError, match=f"{request.measure} on .* gave NaN or infinity"):
            fresh.audit.read(request, fresh.checkpoint)


@pytest.mark.complete
def test_nan_in_one_measure_spares_those_planned_with_it(fresh: Audited, exact: Audited) -> None:
    damage(fresh, layer=2)  # behind everything that attention patterns and copy scores rest on
    fresh.plan(*REQUESTS)
    wanted = Request("attention", IOI, (("query", "end"), ("key", "subject-1")))
    got = fresh.audit.read(wanted, fresh.checkpoint).values
    np.testing.assert_allclose(got, exact.audit.read(wanted, exact.checkpoint).values, rtol=1e-10, atol=1e-12)
    with pytest.raises(MeasuringError, match=r"direct-effect on .* gave NaN"):
        fresh.read("direct-effect", IOI)


@pytest.mark.parametrize("head", [Head(3, 0), Head(0, 4)])
def test_a_head_that_is_not_there(fresh: Audited, head: Head) -> None:
    with pytest.raises(MeasuringError, match=rf"\b{head}\b.*\b3 layers .*\b4 heads\b"):
        fresh.read("direct-effect", IOI, head)
    fresh.plan(Request("direct-effect", IOI, (), (head,)))
    assert fresh.read("copy-score", IOI).prompts == 12  # one impossible plan does not stop the others


@pytest.mark.parametrize(
    ("measure", "task", "operands", "named"),
    [
        ("copy-score", NO_ANSWER, {}, ["copy-score", "wrong-answer", "prompts"]),
        ("induction-score", IOI, {}, ["induction-score", "repeat", "ioi"]),
        ("attention", IOI, {"query": "end"}, ["attention", "`key:`"]),
        ("loss", IOI, {"query": "end"}, ["loss", "`query`"]),
        ("ablation-effect", IOI, {}, ["ablation-effect", "set of heads"]),
        ("attention", IOI, {"query": "end", "key": "subject"}, ["ioi", "position 'subject'", "'subject-2'"]),
    ],
)
def test_questions_that_make_no_sense(
    exact: Audited, measure: str, task: Task, operands: dict[str, str], named: list[str]
) -> None:
    with pytest.raises(MeasuringError) as refused:
        exact.read(measure, task, **operands)
    assert says(refused.value, *named)


def test_a_copy_score_needs_the_answers_in_the_prompt(exact: Audited) -> None:
    text = "Then, the store had a"
    task = given({"clean": text, "right": "ring", "wrong": "bone"})
    assert exact.read("logit-difference", task).prompts == 1
    with pytest.raises(MeasuringError, match=f"copy score .*'{text}'"):
        exact.read("copy-score", task)


def test_forgetting_a_checkpoint_forgets_its_readings(fresh: Audited) -> None:
    fresh.read("loss", IOI)
    before = fresh.audit.model(fresh.checkpoint)
    fresh.audit.forget(fresh.checkpoint)
    assert fresh.audit.model(fresh.checkpoint) is not before
    sizes = count_forwards(fresh)
    fresh.read("loss", IOI)
    assert sum(sizes) == 12
