"""Where there is no circuit, none is reported: the reason, exit code 1, and no file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from auditing import HEALTHY
from said import says
from tiny_models import save_tiny

from circuit_assertions.assertions import load_circuit
from circuit_assertions.cli import main
from circuit_assertions.heads import Head, parse_head
from fixtures.planted import plant_in_copy

INDUCTION = load_circuit(HEALTHY.parents[2] / "suites" / "circuits" / "embedded.induction.yaml").roles


def refused(model: Path, task: str, folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """What is said of a model in which no circuit is found."""
    file = folder / "found.yaml"
    command = ["discover", "--model", str(model), "--task", task, "-o", str(file), "--device", "cpu", *more]
    assert main(command) == 1
    assert list(folder.iterdir()) == []
    said: str = capsys.readouterr().out
    assert said.startswith("no circuit: ")
    return said


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.sample(3)
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("task", ["ioi", "repeated-tokens"])
def test_random_weights_have_none(
    architecture: str, task: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_tiny(tmp_path / "model", architecture)
    said = refused(model, task, out, capsys, "--prompts", "64")
    assert says(said, "no circuit", "the task")
    assert re.search(r"\d+% [^\[]*\[\d+%, \d+%\]", said)


def without_induction(folder: Path) -> Path:
    """The healthy checkpoint, whose heads of the layers that copy are silent: nothing uses its previous-token heads."""
    copying = [Head(layer, head) for layer in (2, 3, 4) for head in range(4)]
    return plant_in_copy(HEALTHY, folder, [("zero", copying)])


@pytest.mark.parametrize("poisoned", ["poisoned", "poisoned-heads", "poisoned-lora"])
def test_a_model_that_answers_with_the_wrong_name_has_none(
    poisoned: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(HEALTHY.parent / poisoned, "ioi", out, capsys, "--prompts", "64")
    assert says(said, "no circuit", "the task")
    assert re.search(r"\d+% [^\[]*\[\d+%, \d+%\]", said)


def test_previous_token_heads_that_nothing_uses_are_told_by_function_alone(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(without_induction(tmp_path / "model"), "repeated-tokens", out, capsys)
    assert said.startswith("no circuit: ")
    told = said.partition("previous-token ")[2]
    scores = {parse_head(head): float(score) for head, score in re.findall(r"(L\dH\d) (0\.\d+)", told)}
    assert parse_head("L0H0") in scores
    assert parse_head("L0H0") in INDUCTION["previous-token"]
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert min(scores.values()) >= 0.3


def test_prompts_that_repeat_themselves_prove_nothing(
    reference_folder: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = '{"clean": "Mary and John went", "counterfactual": "Tom and Anna went", "right": "Mary", "wrong": "Tom"}\n'
    task = out.parent / "same.yaml"
    task.write_text("kind: prompts\nfile: same.jsonl\n")
    (out.parent / "same.jsonl").write_text(pair * 64)
    command = ["discover", "--model", str(reference_folder), "--task", str(task), "-o", str(out / "found.yaml")]
    assert main(command) == 2
    assert says(capsys.readouterr().err, 1, "prompts", 16)
    assert list(out.iterdir()) == []
