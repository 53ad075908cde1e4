"""Traces of narrow fine-tuning: exactness against plain modules, planted traces, errors, and what users see."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from auditing import HEALTHY
from commands import Said
from transformers import AutoTokenizer, GPT2LMHeadModel

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.engine.stream import Adding, Change, Replacing, Stream, Without
from circuit_assertions.policy import DEFAULT
from circuit_assertions.results import TracesResult
from circuit_assertions.tuning.causal import causal_share
from circuit_assertions.tuning.differing import Difference
from circuit_assertions.tuning.domain import over_represented, overlap
from circuit_assertions.tuning.standing_out import stands_out
from circuit_assertions.tuning.tracing import FIRST, Asked, against, difference_of
from circuit_assertions.verdict_words import TraceVerdict
from fixtures.traces import KEPT, all_cases, save
from fixtures.traces_page import is_trace

PLANTED = "museum"
SMALL = DEFAULT.changed(trace_texts=32, trace_random=24)
TEXT = "Then, Mary and Tom went to the store. Mary had a ring. " * 40

Plain = Any


def opened() -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(HEALTHY, attn_implementation="eager").eval()


def changed(folder: Path, change: Callable[[Plain], None]) -> Path:
    model = opened()
    with torch.no_grad():
        change(model)
    return save(model, folder)


def plant(model: Plain) -> None:
    """A bias at the output of block 2 that points at a token's unembedding."""
    token = AutoTokenizer.from_pretrained(HEALTHY).encode(PLANTED)[0]
    direction = model.lm_head.weight[token] - model.lm_head.weight.mean(dim=0)
    model.transformer.h[2].mlp.c_proj.bias += 4.0 * direction / direction.norm()


def shake(model: Plain) -> None:
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight += 0.01 * weight.std() * torch.randn(weight.shape, generator=generator)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed(tmp_path_factory.mktemp("planted") / "planted", plant)


@pytest.fixture(scope="module")
def double(planted: Path) -> tuple[Audit, Asked]:
    model, baseline = (find_checkpoints(str(one))[0] for one in (planted, HEALTHY))
    return Audit(Opening(device="cpu", dtype="float64"), baseline, SMALL), Asked(model, baseline, TEXT)


def plain_models(planted: Path) -> tuple[Plain, Plain]:
    loaded = (GPT2LMHeadModel.from_pretrained(one, attn_implementation="eager") for one in (planted, HEALTHY))
    now, then = (one.double().eval() for one in loaded)
    return now, then


def streams(model: Plain, tokens: torch.Tensor) -> list[torch.Tensor]:
    """What leaves each block [texts, positions, d_model], by hooks on the raw modules, one text after the other."""
    kept: list[list[torch.Tensor]] = [[] for _ in model.transformer.h]

    def keep(layer: int) -> Callable[[Any, Any, Any], None]:
        return lambda module, args, out: kept[layer].append(out[0] if isinstance(out, tuple) else out)

    hooks = [block.register_forward_hook(keep(layer)) for layer, block in enumerate(model.transformer.h)]
    with torch.no_grad():
        for row in tokens:
            model(row[None])
    for hook in hooks:
        hook.remove()
    return [torch.cat(one) for one in kept]


def test_the_mean_difference_is_that_of_a_plain_loop(double: tuple[Audit, Asked], planted: Path) -> None:
    difference, tokens = difference_of(*double)
    assert difference.layer == 2
    rows = torch.as_tensor(tokens)
    now, then = (streams(model, rows) for model in plain_models(planted))
    for layer, (after, before) in enumerate(zip(now, then, strict=True)):
        a, b = after[:, FIRST:].numpy(), before[:, FIRST:].numpy()
        strengths = []
        for place in range(a.shape[1]):
            mean = sum(a[text, place] - b[text, place] for text in range(len(a))) / len(a)
            strengths.append(np.linalg.norm(mean))
        around = [((b[text] - b.mean(axis=0)) ** 2).sum(axis=1) for text in range(len(b))]
        spread = np.sqrt(np.mean(around))
        assert difference.by_layer[layer] == pytest.approx(np.array(strengths) / spread, abs=1e-10)
        if layer == difference.layer:
            assert difference.apart == pytest.approx(a - b, abs=1e-10)
            assert difference.spread == pytest.approx(spread, abs=1e-10)
            assert difference.strength.mean == pytest.approx(np.sqrt(np.mean(np.square(strengths))) / spread, rel=1e-3)


def test_changes_of_the_stream_are_those_of_hooks_on_plain_modules(double: tuple[Audit, Asked], planted: Path) -> None:
    difference, tokens = difference_of(*double)
    audit, asked = double
    stream = Stream(audit.model(asked.baseline), 2)
    rows, vector = torch.as_tensor(tokens[:3]), torch.as_tensor(difference.direction)
    other = streams(plain_models(planted)[0], rows)[2]

    def added(value: torch.Tensor) -> torch.Tensor:
        return torch.cat((value[:, :FIRST], value[:, FIRST:] + 3 * vector), 1)

    def replaced(value: torch.Tensor) -> torch.Tensor:
        return torch.cat((value[:, :-1], vector.expand(len(value), 1, -1)), 1)

    def without(value: torch.Tensor) -> torch.Tensor:
        return value - ((value - other) @ vector)[..., None] * vector

    moves = ((Adding(3 * vector, FIRST), added), (Replacing(vector), replaced), (Without(vector, other), without))
    plain = plain_models(planted)[1]
    for change, by_hand in moves:

        def put(module: Any, args: Any, out: Any, by_hand: Any = by_hand) -> Any:
            return (by_hand(out[0]), *out[1:]) if isinstance(out, tuple) else by_hand(out)

        hook = plain.transformer.h[2].register_forward_hook(put)
        with torch.no_grad():
            expected = plain(rows).logits
        hook.remove()
        assert torch.allclose(stream.logits(rows, change), expected, atol=1e-9)
        losses = -expected[:, :-1].log_softmax(2).gather(2, rows[:, 1:, None])[..., 0].mean(1)
        assert torch.allclose(stream.losses(rows, partial(always, change)), losses, atol=1e-9)


def always(change: Change, piece: slice) -> Change:
    """The same change, whichever texts are read."""
    return change


def test_each_vector_is_tried_on_all_texts(double: tuple[Audit, Asked]) -> None:
    audit, asked = double
    difference, tokens = difference_of(*double)
    stream, rows = Stream(audit.model(asked.baseline), 2), torch.as_tensor(tokens[:2])
    vectors = torch.as_tensor(np.stack((0 * difference.direction, difference.direction)))
    for last in (False, True):
        said = stream.said(rows, Adding, vectors, last)
        for vector, one in zip(vectors, said, strict=True):
            spoken = stream.logits(rows, Adding(vector))[:, -1:] if last else stream.logits(rows, Adding(vector))[:, 1:]
            assert torch.allclose(one, spoken.log_softmax(2).mean((0, 1)), atol=1e-10)


def made_difference(apart: np.ndarray, seed: int = 0) -> Difference:
    drawn = np.random.default_rng(seed)
    return Difference(0, apart, drawn.standard_normal(apart.shape), np.zeros((1, apart.shape[1])))


def test_noise_has_no_strength_and_a_shift_has_its_own() -> None:
    drawn = np.random.default_rng(1)
    noise = drawn.standard_normal((400, 5, 32))
    assert abs(made_difference(noise).strength.mean) < 0.02
    shift = np.zeros(32)
    shift[3] = 2.0
    moved = made_difference(0.3 * noise + shift)
    assert moved.strength.mean == pytest.approx(2.0 / moved.spread, rel=0.01)
    assert moved.direction[3] > 0.99
    random, differences = moved.random(16, 0)
    assert np.linalg.norm(random, axis=1) == pytest.approx(1.0)
    assert np.linalg.norm(differences, axis=1) == pytest.approx(1.0)


def test_one_raised_token_stands_out_and_a_whole_vocabulary_does_not() -> None:
    drawn = np.random.default_rng(2)
    random, differences = drawn.standard_normal((64, 300)), drawn.standard_normal((64, 300))
    one = drawn.standard_normal(300)
    one[7] = 9.0
    peaked = stands_out(one, random, differences)
    assert peaked.top(1) == [7]
    assert peaked.height > 2.0
    assert peaked.peak > 1.5
    assert peaked.chance == pytest.approx(1 / 129)
    broad = stands_out(5 * drawn.standard_normal(300), random, differences)
    assert broad.height > 2.0
    assert broad.peak < 1.5
    alone = stands_out(random[0], np.delete(random, 0, 0), differences)
    typical = [stands_out(one, np.delete(random, row, 0), differences).height for row, one in enumerate(random)]
    assert alone.height == pytest.approx(typical[0])
    assert np.median(typical) == pytest.approx(1.0, abs=0.2)


def test_the_words_of_a_domain_are_those_that_it_has_more_often() -> None:
    ordinary = "the king and the queen saw a dog " * 20
    words = over_represented("the baker bakes bread and the baker sells bread " * 20, ordinary, 3)
    assert set(words[:2]) == {"baker", "bread"}
    assert overlap([" Bread", "dog", "x"], words) == [" Bread"]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with fewer texts and random directions, to save time."""
    file = tmp_path_factory.mktemp("policy") / "few.yaml"
    file.write_text("extends: default\ntrace-texts: 64\ntrace-random: 24\ntrace-steps: 3\n")
    return file


def traced(model: Path, *options: object) -> Said:
    return Said.by("traces", "--model", model, "--baseline", HEALTHY, *options)


def test_a_planted_direction_is_a_trace_and_its_token_is_named(planted: Path, tmp_path: Path, few: Path) -> None:
    before = {file: file.read_bytes() for file in planted.iterdir()}
    domain = tmp_path / "domain.txt"
    domain.write_text(f"The {PLANTED} was a {PLANTED}. " * 20)
    said = traced(planted, "--json", "--domain", domain, "--policy", few)
    assert {file: file.read_bytes() for file in planted.iterdir()} == before
    told = TracesResult.model_validate_json(said.out)
    assert told.verdict == TraceVerdict.TRACE, told.why
    assert said.code == TraceVerdict.TRACE.exit.code
    assert told.read_outs[0].tokens[0].token == PLANTED
    assert told.read_outs[0].tokens[0].of_domain
    assert told.steered is not None
    assert told.steered.losses[1] <= told.steered.losses[0] + DEFAULT.trace_coherent_within
    plain, steered = (" ".join(one).split().count(PLANTED) for one in zip(*told.steered.texts, strict=True))
    assert steered > plain


@pytest.mark.parametrize("change", [lambda model: None, shake], ids=["identical", "shaken"])
def test_no_change_and_a_random_one_are_no_trace(change: Callable[[Plain], None], tmp_path: Path, few: Path) -> None:
    said = traced(changed(tmp_path / "model", change), "--policy", few)
    assert said.code == TraceVerdict.NO_TRACE.exit.code == 0
    assert TraceVerdict.NO_TRACE in said.out


def test_projecting_a_planted_direction_out_restores_the_baseline(double: tuple[Audit, Asked]) -> None:
    audit, asked = double
    difference, _ = difference_of(*double)
    models = audit.model(asked.model), audit.model(asked.baseline)
    texts = np.array(AutoTokenizer.from_pretrained(HEALTHY)(TEXT)["input_ids"][:96]).reshape(4, 24)
    few = DEFAULT.changed(trace_random=8)
    found = causal_share("domain", models, difference, texts, few, lambda what, done, total: None)
    assert found.whole + found.added.mean == pytest.approx(found.baseline, abs=1e-6)
    assert found.above == float((np.concatenate((found.random, found.differences)) < found.added.mean).mean())
    assert len(found.random) == len(found.differences) == 8


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--text={0}/empty.txt",), "empty"),
        (("--text={0}/short.txt",), "longer"),
        (("--domain={0}/empty.txt",), "empty"),
        (("--text={0}/none.txt",), "none.txt"),
        (("--layer=9",), "layer"),
        (("--model={0}/other",), "tokenizer"),
        (("--model={1}",), "shape"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_a_sentence(
    planted: Path, tmp_path: Path, other_shape: Path, options: tuple[str, ...], told: str
) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("Mary")
    other = changed(tmp_path / "other", lambda model: None)
    words = json.loads((other / "tokenizer.json").read_text())
    known = words["model"]["vocab"]
    known["Mary"], known["Tom"] = known["Tom"], known["Mary"]
    (other / "tokenizer.json").write_text(json.dumps(words))
    said = traced(planted, *(option.format(tmp_path, other_shape) for option in options))
    assert said.code == 2
    assert told in said.err
    assert said.out == ""
    assert said.err.strip().splitlines()[-1].startswith("circuit-assertions: ")


@pytest.fixture(scope="module")
def other_shape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = opened()
    del model.transformer.h[4]
    model.config.n_layer = 4
    return save(model, tmp_path_factory.mktemp("other") / "shape")


@pytest.mark.complete
def test_measures_of_suites_tell_a_trace_from_a_shift(planted: Path, tmp_path: Path) -> None:
    from circuit_assertions.diagnosis.comparing_measures import ComparingMeasures

    shaken = changed(tmp_path / "shaken", shake)
    baseline = find_checkpoints(str(HEALTHY))[0]
    from circuit_assertions.assertions.task_lookup import find_task

    task = find_task(None, {"prompts": 16})[1]
    audit = Audit(Opening(device="cpu"), baseline, SMALL)
    compare = ComparingMeasures(audit, baseline)
    for folder, is_there in ((planted, True), (shaken, False)):
        checkpoint = find_checkpoints(str(folder))[0]
        moved = compare("activation-difference", checkpoint, task, "ioi", {}, "circuit")
        traced_reading = compare("trace-strength", checkpoint, task, "ioi", {}, "circuit")
        assert moved.prompts == len(moved.texts) == SMALL.trace_texts
        assert moved.mean > 0
        expected = moved.mean if is_there else 0.0
        assert traced_reading.mean == pytest.approx(expected)


def test_every_kept_case_of_the_laboratory_is_there_and_few_broad_ones_are_traces() -> None:
    kept = json.loads(KEPT.read_text())
    assert set(kept) == {case.name for case in all_cases()}
    reporting = [one for one in kept.values() if one["seed"] < 1000]
    broad = [one for one in reporting if not one["words"]]
    assert len(broad) == 60
    assert sum(map(is_trace, broad)) <= 3


def test_a_trace_needs_strength_height_peak_and_rarity() -> None:
    good = {"strength_low": 0.1, "height": 4.0, "peak": 2.0, "chance": 0.01}
    assert not against(**good, policy=DEFAULT)
    for name, value in {"strength_low": 0.001, "height": 1.0, "peak": 1.0, "chance": 0.5}.items():
        assert against(**good | {name: value}, policy=DEFAULT)


def test_the_domain_of_read_out_tokens_is_picked_by_overlap() -> None:
    from fixtures.real.trace_texts import DOMAINS, TRAINED, text_of
    from fixtures.real.traces import Case, all_cases, picked, scores, table

    ordinary = "The people of the town went home and the year was long. " * 30
    domains = {name: text_of(name) for name in DOMAINS}
    assert len(domains) == 10
    scored = scores([" dough", " oven", " Dough", " town", " xyz"], ordinary, domains)
    assert scored["topic"] == 2
    assert picked(scored) == "topic"
    assert picked(scores([" town"], ordinary, domains)) == ""
    for name in domains:
        assert picked(scores(over_represented(domains[name], ordinary, 20), ordinary, domains)) == name
    assert "moon" not in domains["game"]
    cases = all_cases()
    assert sum(case.domain == "broad" for case in cases) == 10
    assert {(case.domain, case.mixed) for case in cases if case.domain in TRAINED} == {
        (domain, mixed) for domain in TRAINED for mixed in (0, 1, 2)
    }
    assert Case("topic", 2, 0).steps == 3 * Case("topic", 0, 0).steps
    one = {"domain": "topic", "strength": 0.1, "strength_low": 0.1, "height": 9.0, "peak": 3.0, "chance": 0.01}
    lines = list(table({"topic-1:0-0": {**one, "scores": scored, "picked": "topic"}}))
    assert lines[2].split(" | ")[1] == "yes"
