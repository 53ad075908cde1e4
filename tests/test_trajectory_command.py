"""`circuit-assertions trajectory`: its options, exit codes, and what it says where it cannot go on."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from auditing import HEALTHY
from checkpoint_files import WEIGHTS, copy_of
from diagnosis_cases import kept, on_the_way_to
from said import says

from circuit_assertions.cli import main

POISONED = HEALTHY.parent / "poisoned"
INDUCTION = HEALTHY.parents[2] / "suites" / "circuits" / "embedded.induction.yaml"
SUITE = """
suite: short
circuit: ioi
tasks:
  again: {kind: prompts, pairs: [{clean: "Then, Mary went to the", right: store}]}
  sentences: {kind: ioi, prompts: 48}
assertions:
  - {id: prefers-the-right-name, measure: logit-difference, task: sentences, expect: {at-least: 0.0}}
  - {id: movers-look, measure: attention, heads: name-mover, quantifier: mean, query: end, key: indirect-object,
     task: sentences, expect: {at-least: 0.3}}
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.yaml").write_text(SUITE)


def run_of(folder: Path, *checkpoints: Path) -> str:
    """A training run whose steps are these checkpoints."""
    for step, checkpoint in enumerate(checkpoints, 1):
        folder.mkdir(exist_ok=True)
        (folder / f"checkpoint-{step}").symlink_to(checkpoint)
    return folder.name


def trajectory(run: str, *arguments: str | Path, baseline: Path = HEALTHY, suite: str = "--suite=short.yaml") -> int:
    given = ["trajectory", "--model", run, "--baseline", str(baseline), "--device", "cpu", *map(str, arguments)]
    return main([*given, *([suite] if suite else [])])


@pytest.mark.complete
def test_a_run_that_ends_broken_is_told_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run", HEALTHY, POISONED)
    assert trajectory(run, "-o", "run.svg") == 1
    printed = capsys.readouterr().out
    assert "behaviour  sentences logit difference" in printed  # the first task of the suite that can be patched
    (told,) = (line for line in printed.splitlines() if line.split()[1:2] == ["prefers-the-right-name"])
    assert says(told, "broke at step 2", "held at step 1", "still broken")
    ElementTree.parse(tmp_path / "run.svg")


@pytest.mark.complete
def test_a_checkpoint_that_cannot_be_opened_is_named_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("circuit_assertions.report.progress._PATIENCE", 0.0)
    monkeypatch.setattr("circuit_assertions.report.progress._BETWEEN_LINES", 0.0)
    cut = copy_of(HEALTHY, tmp_path / "cut")
    (cut / WEIGHTS).write_bytes((HEALTHY / WEIGHTS).read_bytes()[:1000])
    run = run_of(tmp_path / "run", cut, POISONED, cut, HEALTHY)
    assert trajectory(run, "--json", "--bisect") == 2
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert [step["step"] for step in said["steps"] if step["problem"]] == [1, 3]
    assert "model.safetensors" in said["steps"][0]["problem"]
    (turned,) = said["assertions"]["prefers-the-right-name"]
    assert (turned["broke"], turned["came_back"]) == ("run/checkpoint-2", "run/checkpoint-4")
    assert (said["audited"], said["checkpoints"], said["bisected"]) == (2, 4, True)
    assert "reading run/checkpoint-2 (2 of at most 4), ioi: " in printed.err


@pytest.mark.complete
def test_a_run_that_ends_degraded_fails_only_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    degraded = kept(on_the_way_to("poisoned", 0.15), tmp_path / "degraded")
    run = run_of(tmp_path / "run", HEALTHY, degraded)
    for option, code in (((), 0), (("--circuit-degraded=fail",), 1)):
        assert trajectory(run, "--prompts", "20", "--json", *option) == code
        said = json.loads(capsys.readouterr().out)
        assert [step["overall"] for step in said["steps"]] == ["INTACT", "DEGRADED"]
        assert said["steps"][1]["why"].endswith(" works")
        assert said["prompts"] == {"behaviour": 20, "task": 20}


@pytest.mark.complete  # test_bisect.py has the search itself
def test_bisection_leaves_out_what_it_need_not_see(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run", POISONED, *[HEALTHY] * 8)
    assert trajectory(run, "--bisect", "--json", "--prompts", "16") == 0
    said = json.loads(capsys.readouterr().out)
    assert [step["step"] for step in said["steps"]] == [1, 2, 3, 5, 9]
    assert {turned["came_back"] for turns in said["assertions"].values() for turned in turns} == {"run/checkpoint-2"}
    assert said["steps"][1]["behaviour"] == said["steps"][3]["behaviour"]


@pytest.mark.parametrize("options", [[], pytest.param(["--suite=short.yaml", "--bisect"], marks=pytest.mark.complete)])
def test_diagnose_of_a_training_run_is_its_trajectory(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run", HEALTHY, POISONED)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "ioi.yaml").write_text(SUITE)
    given = ["--model", run, "--baseline", str(HEALTHY), "--prompts", "16", "--device", "cpu", *options]
    printed = []
    for verb in ("diagnose", "trajectory"):
        assert main([verb, *given, "--json", "-o", f"{verb}.svg"]) == 1
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0] == printed[1]
    assert [step["step"] for step in printed[0]["steps"]] == [1, 2]
    assert printed[0]["bisected"] == ("--bisect" in options)
    assert (tmp_path / "diagnose.svg").read_bytes() == (tmp_path / "trajectory.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--suite=nowhere.yaml"], ["nowhere.yaml"]),
        (["--task", "ioy"], ["task 'ioy'", "'ioi'"]),
        (["--task", "gifts.yaml"], ["suites/gifts.yaml", "--suite=FILE"]),
        (["--suite=short.yaml", "--task", "short.yaml::again"], ["right", "wrong", "counterfactual"]),
        (["--suite=short.yaml", "-o", "run.png"], ["run.png", "picture", "-o FILE.svg"]),
        (["--suite=short.yaml", "-o", "nowhere/run.svg"], ["nowhere/run.svg", "picture"]),
        (["--suite=short.yaml", "-o", "drawn.svg"], ["folder", "-o drawn.svg/run.svg"]),
        (["--suite=short.yaml", "-o", f"{'r' * 300}.svg"], [os.strerror(errno.ENAMETOOLONG), "-o FILE"]),
        (["--suite=short.yaml", "-o", "closed/run.svg"], ["closed", "written", "-o FILE"]),
        (["--suite=short.yaml", "--circuit", str(INDUCTION)], ["sentences", "kind ioi", "circuit 'ioi'"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_any_work(
    arguments: list[str],
    named: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("circuit_assertions.audit.Audit.model", lambda *asked: pytest.fail("a model was opened"))
    for folder in ("drawn.svg", "closed"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")  # who tests may write anywhere
    (tmp_path / "gifts.yaml").write_text("kind: prompts\npairs: [{clean: 'Then, Mary went to the', right: store}]\n")
    run = run_of(tmp_path / "run", HEALTHY, POISONED)
    assert trajectory(run, *arguments, suite="") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says(printed.err, *named)
    assert len(printed.err.splitlines()) == 1


def test_a_single_checkpoint_is_sent_to_diagnose(capsys: pytest.CaptureFixture[str]) -> None:
    assert trajectory(str(POISONED)) == 2
    said = capsys.readouterr().err
    assert says(said, POISONED, "training run", "`circuit-assertions diagnose`")


def test_a_run_and_a_baseline_that_do_not_fit_are_refused(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run", HEALTHY, POISONED)
    assert trajectory(run, baseline=tiny_folder) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "3 layers" in printed.err
    assert "5 layers" in printed.err
    assert trajectory(run, baseline=Path(run)) == 2
    assert says(capsys.readouterr().err, run, "training run")


def test_a_run_of_which_nothing_can_be_opened_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = copy_of(HEALTHY, tmp_path / "empty", without=WEIGHTS)
    assert trajectory(run_of(tmp_path / "run", empty, empty)) == 2
    assert says(capsys.readouterr().err, "run", "weights", "checkpoint-1", "checkpoint-2")
