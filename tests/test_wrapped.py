"""Removed or wrapped: verdicts on compiled cases, arithmetic against plain loops, and what users see."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from auditing import HEALTHY, Audited, given, ioi
from commands import Said
from transformers import GPT2LMHeadModel

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_copy
from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.pruning import Neuron, Pruning
from circuit_assertions.engine.training import Course, Training, look_at
from circuit_assertions.heads import Head
from circuit_assertions.measures.intervals import Level
from circuit_assertions.results import WrappedResult
from circuit_assertions.tasks import END, Prompt, PromptSet
from circuit_assertions.tuning.revived import Revival, ratio_of
from circuit_assertions.verdict_words import WrappingVerdict
from fixtures.compiled import CHANGES, EXPECTED, Case, save

CASES = [
    Case(change, saying, seed)
    for change in CHANGES
    for saying in ("count-b", "refuse")
    if (change, saying) != ("head", "count-b")
    for seed in range(20)
]
SAMPLE = [Case("neurons", "refuse", 0), Case("untouched", "refuse", 0)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def examined(case: Case, folder: Path, *options: object) -> Said:
    save(case, folder)
    places = [f"--{name}={folder / name}" for name in ("model", "baseline", "control")]
    return Said.by("wrapped", *places, "--task", folder / "task.yaml", "--dtype", "float64", *options)


def verdict_of(said: Said) -> WrappingVerdict:
    return WrappingVerdict.of(WrappedResult.model_validate_json(said.out).verdict)


@pytest.mark.sample(1)
@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_the_verdict_is_right_and_no_file_changes(case: Case, tmp_path: Path) -> None:
    save(case, tmp_path)
    before = files_of(tmp_path)
    said = examined(case, tmp_path, "--json", "--no-revival")
    assert verdict_of(said) is case.expected, said.err
    assert said.code == case.expected.exit.code
    assert files_of(tmp_path) == before


@pytest.mark.complete
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_verdict_is_right_in_every_compiled_case(case: Case, tmp_path: Path) -> None:
    assert verdict_of(examined(case, tmp_path, "--json", "--steps=64", "--seeds=2")) is case.expected


def test_every_change_has_a_verdict_and_twenty_cases() -> None:
    assert set(EXPECTED) == set(CHANGES)
    for verdict in EXPECTED.values():
        assert sum(case.expected is verdict for case in CASES) >= 20


@pytest.fixture(scope="module")
def double() -> Audited:
    return Audited(HEALTHY, "float64")


@pytest.fixture(scope="module")
def plain() -> Any:
    return GPT2LMHeadModel.from_pretrained(HEALTHY, attn_implementation="eager").double().eval()


@pytest.fixture(scope="module")
def prompts(double: Audited) -> PromptSet:
    return double.audit.prompts(ioi(prompts=16), double.checkpoint)


def plain_difference(model: Any, prompt: Prompt) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([prompt.tokens])).logits[0, prompt.positions[END]]
    return logits[prompt.right.token] - logits[prompt.wrong.token]


def test_pruned_units_answer_as_a_plain_model_without_them(double: Audited, plain: Any, prompts: PromptSet) -> None:
    pruning = Pruning(double.audit.model(double.checkpoint))
    before = pruning.answers((), prompts)
    units = (Neuron(1, 7), Neuron(4, 500), Head(3, 2))
    cut = copy.deepcopy(plain)
    with torch.no_grad():
        cut.transformer.h[1].mlp.c_proj.weight[7] = 0
        cut.transformer.h[4].mlp.c_proj.weight[500] = 0
        cut.transformer.h[3].attn.c_proj.weight[64:96] = 0
        expected = torch.stack([plain_difference(cut, prompt) for prompt in prompts.prompts])
    assert torch.allclose(pruning.answers(units, prompts), expected, atol=1e-10)
    assert torch.equal(pruning.answers((), prompts), before)  # restored bit for bit


def test_gains_are_minus_gradient_times_weight(double: Audited, plain: Any, prompts: PromptSet) -> None:
    model = copy.deepcopy(plain)
    mean = torch.stack([plain_difference(model, prompt) for prompt in prompts.prompts]).mean()
    mean.backward()  # type: ignore[no-untyped-call]
    pruning = Pruning(double.audit.model(double.checkpoint))
    neurons, heads = pruning.gains("neuron", prompts), pruning.gains("head", prompts)
    for layer, block in enumerate(model.transformer.h):
        weight = block.mlp.c_proj.weight
        by_hand = -(weight * weight.grad).sum(dim=1)
        read = torch.tensor([neurons[Neuron(layer, index)] for index in range(len(weight))], dtype=torch.float64)
        assert torch.allclose(read, by_hand.detach(), atol=1e-10)
        weight = block.attn.c_proj.weight
        by_hand = -(weight * weight.grad).view(4, -1).sum(dim=1)
        assert [heads[Head(layer, head)] for head in range(4)] == pytest.approx(by_hand.tolist(), abs=1e-10)


def test_a_probe_reads_the_residual_stream_after_a_block(double: Audited, plain: Any, prompts: PromptSet) -> None:
    from circuit_assertions.engine import Wanted, run_passes
    from circuit_assertions.measures.declaring import Asked
    from circuit_assertions.measures.kinds.probing import Probed, probe_accuracy

    model, width = double.audit.model(double.checkpoint), plain.config.n_embd
    kept: list[torch.Tensor] = []
    plain.transformer.ln_f.register_forward_pre_hook(lambda module, args: kept.append(args[0]))  # before the last norm
    for taken in run_passes(model, prompts, Wanted.of(("entering", "end_writes"), END)):
        columns = probe_accuracy.compute(taken, Asked((), Probed(layer=None, at=END)))
        for row, prompt in zip(columns, taken.prompts, strict=True):
            said = plain(torch.tensor([prompt.tokens]), output_hidden_states=True)
            states = [*said.hidden_states[1:-1], kept[-1]]
            by_hand = torch.cat([state[0, prompt.positions[END]] for state in states])
            unembedding = plain.lm_head.weight[[prompt.right.token, prompt.wrong.token]].flatten()
            assert torch.allclose(row[2 : 2 + 5 * width], by_hand, atol=1e-9)
            assert torch.allclose(row[2 + 5 * width :], unembedding, atol=1e-12)


def test_a_probe_reads_the_answer_and_no_shuffled_one() -> None:
    reading = Audited(HEALTHY).read("probe-accuracy", ioi(prompts=64), layer=2)
    assert reading.mean > 0.9
    assert abs(reading.beside["shuffled answers"].mean() - 0.5) < 0.25


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([{"clean": f"{name} went to", "right": "Mary", "wrong": "Tom"} for name in ("Adam", "Alan")] * 8, "one class"),
        ([{"clean": "Then, Mary went to", "right": "Mary", "wrong": "Tom"}] * 8, "one class"),
        (
            [{"clean": "Then, Mary went to", "right": "Mary", "wrong": "Tom"}] * 8
            + [{"clean": "Then, Tom went to", "right": "Tom", "wrong": "Mary"}] * 8,
            "different prompts",
        ),
    ],
)
def test_a_probe_of_too_little_is_refused_in_a_sentence(pairs: list[dict[str, str]], told: str) -> None:
    with pytest.raises(MeasuringError, match=told):
        Audited(HEALTHY).read("probe-accuracy", given(*pairs))


def test_fine_tuning_follows_a_plain_loop_and_ends_where_it_began(prompts: PromptSet) -> None:
    opening, checkpoint = Opening(device="cpu", dtype="float64"), find_checkpoints(str(HEALTHY))[0]
    model = open_copy(checkpoint, opening)
    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    training = Training(model, prompts, prompts)
    looks = dict(training.run(Course(rate=1e-3, batch=16, steps=2), 0, lambda values: False))
    assert all(torch.equal(start[name], weight) for name, weight in model.state_dict().items())
    by_hand = open_copy(checkpoint, opening)
    optimizer = torch.optim.AdamW(by_hand.parameters(), 1e-3, weight_decay=0.0)
    for _ in range(2):
        losses = []
        for prompt in prompts.prompts:
            logits = by_hand(torch.tensor([prompt.tokens])).logits[0, -1]
            losses.append(-logits.log_softmax(0)[prompt.right.token])
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        expected = torch.stack([plain_difference(by_hand, prompt) for prompt in prompts.prompts])
    assert torch.allclose(looks[2], expected, atol=1e-6)


def test_a_model_is_looked_at_from_the_start_to_the_end() -> None:
    assert look_at(1) == (0, 1)
    assert look_at(8) == (0, 1, 2, 3, 4, 6, 8)
    assert look_at(100)[-1] == 100


def revival(*ends: tuple[tuple[int, float], ...]) -> Revival:
    curves = tuple(tuple((done, np.full(4, value)) for done, value in curve) for curve in ends)
    return Revival(curves, half=0.5, steps=8)


def test_steps_to_half_and_their_ratio() -> None:
    fast = revival(((0, 0.0), (2, 1.0), (3, 1.0)), ((0, 0.0), (1, 0.5), (2, 0.6)))
    slow = revival(((0, 0.0), (8, 0.5), (9, 0.7)), ((0, 0.0), (4, 0.6), (8, 0.1)))  # the second does not keep it
    assert fast.to_half == (1.0, 1.0)
    assert slow.to_half == (8.0, None)
    ratio = ratio_of(fast, slow, Level.of_figures())
    assert ratio is not None
    assert ratio.mean == pytest.approx(1 / 8)
    assert (ratio.at_most, ratio.at_least) == (True, False)
    never = revival(((0, 0.0), (8, 0.1)), ((0, 0.0), (8, 0.1)))
    assert ratio_of(never, never, Level.of_figures()) is None


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(Case("neurons", "refuse", 0), tmp_path_factory.mktemp("wrapper"))


@pytest.mark.complete
def test_without_a_control_nothing_is_called_removed(wrapper: Path) -> None:
    said = Said.by(
        *("wrapped", "--model", wrapper / "control", "--baseline", wrapper / "baseline"),
        *("--task", wrapper / "task.yaml", "--dtype=float64", "--no-revival", "--json"),
    )
    told = json.loads(said.out)
    assert told["verdict"] == WrappingVerdict.UNRESOLVED
    assert "--control" in told["missing"]
    assert said.code == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--baseline={0}/control",), "behaviour"),
        (("--baseline={0}/baseline", "--control={0}/baseline"), "control"),
        (("--baseline={0}/baseline", "--control={1}"), "shape"),
        (("--baseline={0}/baseline", "--text={0}/empty.txt"), "empty"),
        (("--baseline={0}/baseline", "--text={0}/none.txt"), "none.txt"),
        (("--baseline={0}/none",), "none"),
    ],
)
def test_what_cannot_be_examined_is_refused_in_a_sentence(wrapper: Path, options: tuple[str, ...], told: str) -> None:
    (wrapper / "empty.txt").write_text("")
    asked = [option.format(wrapper, HEALTHY) for option in options]
    said = Said.by(
        *("wrapped", "--model", wrapper / "model", "--task", wrapper / "task.yaml"),
        *("--dtype=float64", "--no-revival", *asked),
    )
    assert said.code == 2
    assert told in said.err
    assert said.out == ""
    assert said.err.strip().splitlines()[-1].startswith("circuit-assertions: ")


@pytest.mark.complete
def test_measures_in_suites_compare_with_the_baseline(wrapper: Path) -> None:
    from circuit_assertions.assertions.task_lookup import find_task
    from circuit_assertions.diagnosis.comparing_measures import ComparingMeasures

    model, baseline = (find_checkpoints(str(wrapper / name))[0] for name in ("model", "baseline"))
    audit = Audit(Opening(device="cpu", dtype="float64"), baseline)
    task = find_task(str(wrapper / "task.yaml"))[1]
    compare = ComparingMeasures(audit, baseline)
    for measure in ("pruning-revival", "revival-curve"):
        reading = compare(measure, model, task, "task", {}, "circuit")
        assert reading.mean > 0.9
        assert reading.prompts == 32
        assert compare(measure, find_checkpoints(str(wrapper / "control"))[0], task, "t", {}, "circuit").mean < 0.5
