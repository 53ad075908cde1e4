"""Recovery assertion by assertion: a share that is exact, and told wherever the assertion is."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from auditing import HEALTHY
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from result_cases import explained
from suite_texts import write
from test_report import MARGIN, judged, read
from transformers import GPT2Config, GPT2LMHeadModel

from circuit_assertions.assertions.recovered_share import recovered
from circuit_assertions.cli import main
from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES, Reading

COMMITTED = HEALTHY.parent
PROMPTS = 40
HEADS = (Head(3, 0), Head(3, 1), Head(4, 2))
RNG = np.random.default_rng(0)
NOISE: NDArray[np.float64] = RNG.normal(0.0, 0.3, (PROMPTS, len(HEADS)))

SUITE = """\
suite: what came back
circuit: ioi

tasks:
  ioi: {kind: ioi, prompts: 64}

assertions:
  - id: prefers
    measure: logit-difference
    task: ioi
    expect: {at-least: 2.0}

  - id: movers-look
    measure: attention
    heads: name-mover
    quantifier: mean
    query: end
    key: indirect-object
    task: ioi
    expect: {at-least: 0.4}

  - id: movers-are-the-ones
    measure: role-stability
    heads: name-mover
    task: ioi
    expect: {at-least: 0.5}

  - id: movers-copy
    measure: copy-score
    heads: name-mover
    task: ioi
    expect: {at-least: 0.8}

  - id: came-back
    measure: recovery
    task: ioi
    expect: {at-least: 0.6}
"""


def of_heads(*means: float) -> Reading:
    spec = MEASURES["path-effect"]
    return Reading("path-effect", spec.unit, spec.reading_kind, np.array(means) + NOISE, HEADS)


@given(st.floats(-0.5, 1.5), st.floats(0.5, 8.0), st.floats(-8.0, 8.0))
@settings(deadline=None)
def test_it_says_how_far_the_model_lies_between_the_two(share: float, then: float, worst: float) -> None:
    assume(then - worst >= max(0.5, 0.11 * then))
    baseline, corrupted = of_heads(then, then, then), of_heads(worst, worst, worst)
    model = of_heads(*([worst + share * (then - worst)] * 3))
    spread = NOISE - NOISE.mean(axis=0)  # of the model alone: it has a say in the interval, and none in the mean
    model = Reading("path-effect", "logits", "value", model.values + spread, HEADS)
    found = recovered(model, baseline, corrupted, "each")
    assert found is not None
    assert found.mean == pytest.approx(share)
    assert found.interval.low < found.mean < found.interval.high


def test_the_baseline_is_all_of_it_and_the_corrupted_one_none() -> None:
    baseline, corrupted = of_heads(2.0, 1.0, 0.5), Reading("path-effect", "logits", "value", -3 * NOISE, HEADS)
    for model, share in ((baseline, 1.0), (corrupted, 0.0)):
        found = recovered(model, baseline, corrupted, "each")
        assert found is not None
        assert (found.mean, *found.interval) == pytest.approx((share,) * 3)


def test_what_was_not_lost_cannot_come_back() -> None:
    baseline = of_heads(2.0, 1.0, 0.5)
    assert recovered(of_heads(3.0, 3.0, 3.0), baseline, baseline, "each") is None
    a_little = of_heads(1.95, 0.95, 0.45)
    assert recovered(a_little, baseline, a_little, "each") is None
    noisy = Reading("path-effect", "logits", "value", baseline.values + RNG.normal(0.0, 9.0, NOISE.shape), HEADS)
    assert recovered(a_little, baseline, noisy, "each") is None


def test_what_rose_where_it_should_be_low_comes_back_too() -> None:
    found = recovered(of_heads(0.5, 0.5, 0.5), of_heads(0.2, 0.2, 0.2), of_heads(3.2, 3.2, 3.2), "mean", True)
    assert found is not None
    assert found.mean == pytest.approx(0.9)


@pytest.mark.parametrize(("low_is_good", "share"), [(False, 0.5), (True, 0.0)])
def test_where_some_heads_are_enough_the_baselines_best_counts(low_is_good: bool, share: float) -> None:
    found = recovered(of_heads(1.0, 9.0, 4.0), of_heads(2.0, 1.0, 0.0), of_heads(0.0, 5.0, 4.0), 1, low_is_good)
    assert found is not None
    assert found.mean == pytest.approx(share)


def test_heads_that_pull_both_ways_do_not_cancel() -> None:
    found = recovered(of_heads(2.0, -1.0, 0.0), of_heads(2.0, -2.0, 0.0), of_heads(0.0, 0.0, 0.0), "each")
    assert found is not None
    assert found.mean == pytest.approx(0.75)


def test_what_only_rose_was_not_lost() -> None:
    assert recovered(of_heads(1.0, 1.0, 1.0), of_heads(1.0, 1.0, 1.0), of_heads(2.0, 2.0, 2.0), "each") is None
    assert recovered(of_heads(1.0, 1.0, 1.0), of_heads(2.0, 2.0, 2.0), of_heads(1.0, 1.0, 1.0), "mean", True) is None


def test_rounding_is_no_loss() -> None:
    quiet = Reading("path-effect", "logits", "value", 1e-8 * NOISE, HEADS, rounding=1e-5)
    louder = replace(quiet, values=quiet.values - 1e-7)
    assert recovered(quiet, quiet, louder, "each") is None


def test_a_failure_and_the_summary_tell_it() -> None:
    judgement = judged(MARGIN, read("logit-difference", np.linspace(0.0, 3.0, 40)))
    assert "back" not in explained(judgement, MARGIN, "again")
    share = recovered(of_heads(1.0, 1.0, 1.0), of_heads(2.0, 2.0, 2.0), of_heads(0.0, 0.0, 0.0), "each")
    text = explained(judgement.__class__(**(vars(judgement) | {"recovered": share})), MARGIN, "again")
    assert re.search(r"\n  recovered 50% \[50%, 50%\] .*\bcorrupted checkpoint\b.*\n", text)


@pytest.fixture
def project(pytester: pytest.Pytester, opened_once: None) -> pytest.Pytester:
    write(pytester.path, {"suites/ioi.yaml": SUITE})
    return pytester


def backs(project: pytest.Pytester, model: Path, *options: str) -> dict[str, str]:
    """What the audit says is recovered, by assertion."""
    beside = [f"--baseline={HEALTHY}", "--no-diagnosis", *options]
    lines = project.runpytest_inprocess(f"--model={model}", *beside).outlines
    told = (re.match(r"  (?:HELD|BROKEN|UNRESOLVED) +(\S+) .*; (.*) recovered", line) for line in lines)
    return {found[1]: found[2] for found in told if found}


@pytest.mark.complete
def test_each_assertion_tells_what_is_back_of_it(project: pytest.Pytester) -> None:
    poisoned = f"--corrupted={COMMITTED / 'poisoned'}"
    said = backs(project, COMMITTED / "recovered", poisoned)
    assert set(said) == {"prefers", "movers-look", "movers-are-the-ones"}  # poison leaves copying; recovery is a share
    assert all(80 <= int(share.partition("%")[0]) <= 130 for share in said.values())
    itself = backs(project, HEALTHY, poisoned)
    assert set(itself.values()) == {"100% [100%, 100%]"}
    bypassed = backs(project, COMMITTED / "bypassed", poisoned)
    assert int(bypassed["movers-are-the-ones"].partition("%")[0]) < int(bypassed["prefers"].partition("%")[0])


def test_without_a_corrupted_checkpoint_nothing_is_said_of_it(project: pytest.Pytester) -> None:
    assert backs(project, COMMITTED / "recovered") == {}


def unfit(kind: str, folder: Path, tiny: Path) -> Path:
    """A checkpoint that the healthy one cannot be held against."""
    if kind == "another shape and tokenizer":
        return tiny
    shutil.copytree(HEALTHY, folder)
    weights = folder / "model.safetensors"
    if kind == "cut off":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif kind == "of another shape":
        shape = GPT2Config.from_pretrained(HEALTHY, n_layer=2)
        GPT2LMHeadModel(shape).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["another shape and tokenizer", "of another shape", "cut off"])
@pytest.mark.complete
def test_a_corrupted_checkpoint_that_does_not_fit_costs_shares_and_no_verdict(
    project: pytest.Pytester, kind: str, tiny_folder: Path, tmp_path: Path
) -> None:
    corrupted = unfit(kind, tmp_path / "worst", tiny_folder)
    given = [f"--model={HEALTHY}", f"--baseline={HEALTHY}", f"--corrupted={corrupted}", "--no-diagnosis"]
    result = project.runpytest_inprocess(*given)
    result.assert_outcomes(passed=4, errors=1)  # what asks for the corrupted checkpoint itself cannot be judged
    assert not any(" recovered" in line for line in result.outlines if line.startswith("  HELD"))
    told = [line for line in result.outlines if line.startswith("corrupted ")]
    assert told == [line for line in told if f"{corrupted}: recovery " in line] != []


@pytest.mark.complete
def test_diagnose_tells_it_of_the_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write(tmp_path, {"suites/ioi.yaml": SUITE}) / "suites" / "ioi.yaml"
    models = [f"--{name}={COMMITTED / folder}" for name, folder in (("model", "recovered"), ("corrupted", "poisoned"))]
    code = main(["diagnose", *models, f"--baseline={HEALTHY}", f"--suite={suite}", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert code == 0
    assert list(said["assertions"]) == ["prefers", "movers-look", "movers-are-the-ones", "movers-copy", "came-back"]
    of_behaviour = said["assertions"]["prefers"]["recovered"]
    assert of_behaviour["mean"] == pytest.approx(said["recovery"]["share"]["mean"], abs=1e-6)
    assert of_behaviour["low"] < of_behaviour["mean"] < of_behaviour["high"]
    assert said["assertions"]["movers-copy"] == {"verdict": "HELD", "recovered": None, "reason": None}


@pytest.mark.complete
def test_with_workers_it_travels(project: pytest.Pytester) -> None:
    shutil.copytree(COMMITTED / "recovered", project.path / "model")
    given = [f"--baseline={HEALTHY}", f"--corrupted={COMMITTED / 'poisoned'}", "--no-diagnosis"]
    result = project.runpytest_subprocess("--model=model", *given, "-n1", "-k", "prefers", "-p", "no:pytester")
    assert any(re.search(r"prefers .*; \d+% \[.*\] recovered", line) for line in result.outlines)
