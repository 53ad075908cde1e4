"""`circuit-assertions init`: what it writes, that nothing is written over, and that its suite is a gate."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from auditing import HEALTHY
from commands import Said
from said import says

from circuit_assertions.assertions import load_circuit, load_suite
from circuit_assertions.cli.ci_file import ci_file
from circuit_assertions.verdict_words import Outcome

QUICK = ("--task", "induction", "--prompts", "32", "--device", "cpu")
SUITE, CIRCUIT = Path("suites", "induction.yaml"), Path("suites", "circuits", "base.induction.yaml")
WORKFLOW = Path(".github", "workflows", "circuits.yml")
FILES = {SUITE, CIRCUIT, CIRCUIT.with_suffix(".svg"), WORKFLOW}


def files_in(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class Begun:
    """A project in which the command has run, and what it said. Not to be changed."""

    project: Path
    said: Said


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    project = tmp_path_factory.mktemp("project")
    (project / "base").symlink_to(HEALTHY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        said = Said.by("init", "--model", "base", "--name", "base", *QUICK, "--candidate", "../out $x")
    return Begun(project, said)


def test_suite_circuit_and_workflow_are_written_and_the_base_passes(begun: Begun) -> None:
    assert begun.said.code == 0
    assert {path for path in files_in(begun.project) if path.parts[0] != "base"} == FILES
    circuit = load_circuit(begun.project / CIRCUIT)
    suite = load_suite(begun.project / SUITE, (circuit,)).suite
    assert circuit.found is not None
    bounded = [one for one in suite.assertions if not one.expect.only_relative]
    assert len(bounded) == len(circuit.found.thresholds)
    assert suite.required
    assert [one.required for one in suite.assertions if one.expect.only_relative] == [False]
    held = [line for line in begun.said.out.splitlines() if line.startswith(f"  {Outcome.HELD} ")]
    assert len(held) == len(bounded)
    assert all(says(begun.said.out, path) for path in FILES)


def test_the_suite_asks_other_prompts_than_the_search(begun: Begun) -> None:
    written = yaml.safe_load((begun.project / SUITE).read_text())["tasks"]["repeated-tokens"]
    found = yaml.safe_load((begun.project / CIRCUIT).read_text())["found"]["task"]
    assert written["seed"] == found["seed"] + 1
    assert written["prompts"]["start"] == found["prompts"]


def test_the_next_command_and_the_workflow_run_the_gate(begun: Begun) -> None:
    shown = next(line for line in begun.said.out.splitlines() if line.strip().startswith("pytest "))
    assert says(shown, "'--model=../out $x'", "--baseline=base", SUITE)
    workflow = yaml.safe_load((begun.project / WORKFLOW).read_text())
    assert workflow["env"] == {"CANDIDATE": "../out $x", "BASELINE": "base"}
    (run,) = [step["run"] for step in workflow["jobs"]["audit"]["steps"] if "pytest" in step.get("run", "")]
    assert says(run, SUITE, '--model="$CANDIDATE"', '--baseline="$BASELINE"')


@pytest.mark.parametrize("text", ["a: b #c", '"quoted"', "${{ secrets.TOKEN }}", "größe", "a'b", "- x"])
def test_a_path_is_data_in_the_workflow(text: str) -> None:
    env = yaml.safe_load(ci_file("suites/a b.yaml", text, text))["env"]
    assert json.dumps(env["BASELINE"].replace("${{ '${{' }}", "${{")) == json.dumps(text)
    assert "${{ s" not in env["CANDIDATE"]


@pytest.mark.parametrize("there", sorted(FILES))
def test_no_existing_file_is_changed_and_the_message_names_it(tmp_path: Path, there: Path) -> None:
    file = tmp_path / there
    file.parent.mkdir(parents=True)
    file.write_text("mine\n")
    said = Said.by("init", "--model", HEALTHY, "--name", "base", *QUICK)
    assert said.code == 2
    assert says(said.err, there, "--suite", "-o", "--no-ci")
    assert not any(str(other) in said.err for other in FILES - {there} if other.stem != there.stem)
    assert files_in(tmp_path) == {there}
    assert file.read_text() == "mine\n"


def test_a_model_that_cannot_do_the_task_leaves_nothing_behind(tiny_folder: Path, tmp_path: Path) -> None:
    said = Said.by("init", "--model", tiny_folder, *QUICK)
    assert said.code == 1
    assert says(said.out, "75%", "nothing is written")
    assert files_in(tmp_path) == set()


@pytest.mark.complete
def test_a_file_that_cannot_be_written_takes_the_others_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import circuit_assertions.cli.run_init as run_init

    def refuse(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_init, "write_whole", refuse)
    said = Said.by("init", "--model", HEALTHY, *QUICK)
    assert said.code == 2
    assert says(said.err, os.strerror(errno.ENOSPC))
    assert files_in(tmp_path) == set()


@pytest.mark.complete
def test_own_prompts_of_a_file_are_named_from_the_suites_folder(tmp_path: Path) -> None:
    from circuit_assertions.assertions.task_lookup import find_task
    from circuit_assertions.diagnosis.discovery.suite_file import task_values

    (tmp_path / "data").mkdir()
    line = json.dumps({"clean": "a {x:b} c", "counterfactual": "a d c", "right": ["b", "e"], "wrong": {"d": 0.5}})
    (tmp_path / "data" / "mine.jsonl").write_text(f"{line}\n")
    (tmp_path / "data" / "task.yaml").write_text("kind: prompts\nfile: mine.jsonl\n")
    _, task = find_task("data/task.yaml")
    assert task_values(task, 1, "../data/mine.jsonl") == {"kind": "prompts", "file": "../data/mine.jsonl"}
    inline = task_values(task, 1)
    assert inline["pairs"][0]["right"] == {"b": 1.0, "e": 1.0}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump({**inline, "file": None}))
    assert find_task("again.yaml")[1].as_given()["pairs"] == task.as_given()["pairs"]


@pytest.mark.complete
def test_the_suite_passes_the_base_and_fails_a_model_of_another_lineage(begun: Begun, tmp_path: Path) -> None:
    import subprocess
    import sys

    shutil.copytree(begun.project / "suites", tmp_path / "suites")
    codes = {}
    for name in ("healthy", "seed-100"):
        command = [sys.executable, "-m", "pytest", f"--model={HEALTHY.parent / name}", f"--baseline={HEALTHY}"]
        done = subprocess.run([*command, "--no-diagnosis", "-q", str(SUITE)], check=False, capture_output=True)
        codes[name] = done.returncode
    assert codes == {"healthy": 0, "seed-100": 1}
