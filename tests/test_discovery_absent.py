"""Where there is no circuit, none is reported: the reason, exit code 1, and no file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from auditing import STORIES
from tiny_models import save_tiny

from circuit_assertions.cli import main


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


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("task", ["ioi", "repeated-tokens"])
def test_random_weights_have_none(
    architecture: str, task: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_tiny(tmp_path / "model", architecture)
    said = refused(model, task, out, capsys, "--prompts", "64")
    assert "the model does not do the task: it answers right on " in said


def test_a_model_of_stories_does_not_identify_indirect_objects(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Few words are single tokens of its own; these stand where names, places and objects do.
    words = ("--names", "Tim,Lily,Timmy,She,He,They", "--places", "day,mom", "--objects", "friend")
    said = refused(STORIES, "ioi", out, capsys, "--prompts", "64", *words)
    assert "the model does not do the task: it answers right on " in said


def test_its_previous_token_heads_are_told_by_function_alone(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(STORIES, "repeated-tokens", out, capsys)
    assert "by function alone, whatever they are for: previous-token L3H6 0." in said
    scores = [float(score) for score in re.findall(r"L\dH\d (0\.\d+)", said)]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.3


def test_prompts_that_repeat_themselves_prove_nothing(
    reference_folder: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = '{"clean": "Mary and John went", "counterfactual": "Tom and Anna went", "right": "Mary", "wrong": "Tom"}\n'
    task = out.parent / "same.yaml"
    task.write_text("kind: prompts\nfile: same.jsonl\n")
    (out.parent / "same.jsonl").write_text(pair * 64)
    command = ["discover", "--model", str(reference_folder), "--task", str(task), "-o", str(out / "found.yaml")]
    assert main(command) == 2
    assert "1 different prompts are too few to find heads by: ask at least 16" in capsys.readouterr().err
    assert list(out.iterdir()) == []
