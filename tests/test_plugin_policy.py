"""`pytest --policy`: by name, from a file, from the configuration, with workers, in JSON and in printed commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from auditing import HEALTHY
from diagnosis_cases import kept, on_the_way_to
from said import says
from suite_texts import TINY_SUITE, write

from circuit_assertions.policy import DEFAULT, POLICIES

FINER = "extends: default\nleast-lost: 2%\n"
RECOVERING = """\
suite: what was recovered
circuit: ioi

tasks:
  ioi: {kind: ioi, prompts: 32}

assertions:
  - id: all-of-it
    measure: recovery
    task: ioi
    expect: {at-least: 0.5}
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    files = {"suites/tiny.yaml": TINY_SUITE, "pytest.ini": "[pytest]\nmarkers = gate: x\n", "ours.yaml": FINER}
    write(folder := pytester.mkdir("project"), files)
    os.chdir(folder)
    return pytester


@pytest.mark.parametrize("said", ["strct", "nothing", "missing.yaml"])
def test_what_is_no_policy_is_a_usage_error(project: pytest.Pytester, tiny_folder: Path, said: str) -> None:
    result = project.runpytest_inprocess(f"--model={tiny_folder}", f"--circuit-policy={said}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert says(result.stderr.str(), "--policy", said, *POLICIES, "path.yaml")


def test_a_file_that_is_not_valid_is_a_usage_error_with_the_place(project: pytest.Pytester, tiny_folder: Path) -> None:
    Path("ours.yaml").write_text("extends: default\nleast-lots: 0.2\n")
    result = project.runpytest_inprocess(f"--model={tiny_folder}", "--policy=ours.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert says(result.stderr.str(), "ours.yaml:2:1", "least-lots", "'least-lost'")


def audited(project: pytest.Pytester, model: Path, *more: str) -> tuple[str, dict[str, Any]]:
    """The output and the JSON of an audit."""
    Path("audit.json").unlink(missing_ok=True)
    output = project.runpytest_inprocess(f"--model={model}", "--circuit-json=audit.json", *more).stdout.str()
    return output, json.loads(Path("audit.json").read_text())


@pytest.mark.usefixtures("opened_once")
def test_json_the_report_and_the_printed_command_carry_it(project: pytest.Pytester, tiny_folder: Path) -> None:
    output, data = audited(project, tiny_folder)
    assert data["policy"] == {"name": "default", "values": DEFAULT.values}
    assert "policy" not in output
    output, data = audited(project, tiny_folder, "--policy=ours.yaml")
    assert data["policy"] == {"name": "ours.yaml", "values": DEFAULT.values | {"least_lost": 0.02}}
    assert "\npolicy    ours.yaml\n" in output
    (command,) = {line.split("reproduce ")[1] for line in output.splitlines() if "reproduce pytest" in line}
    assert "--policy=ours.yaml" in command.split()


@pytest.mark.parametrize("value", ["strict", "ours.yaml"])
def test_the_configuration_may_have_it_wherever_pytest_is_started(
    project: pytest.Pytester, tiny_folder: Path, value: str
) -> None:
    Path("pytest.ini").write_text(f"[pytest]\nmarkers = gate: x\ncircuit_policy = {value}\n")
    (inside := Path("suites", "deeper")).mkdir()
    os.chdir(inside)
    _, data = audited(project, tiny_folder, "../tiny.yaml")
    assert data["policy"]["name"] == os.path.relpath(Path("../..") / value) if value.endswith(".yaml") else value
    assert data["policy"]["values"] != DEFAULT.values
    _, data = audited(project, tiny_folder, "../tiny.yaml", "--policy=default")
    assert data["policy"]["name"] == "default"


@pytest.fixture
def little(project: pytest.Pytester, tmp_path: Path) -> list[str]:
    """A suite about recovery beside a checkpoint that has lost some 5 %, and the options of an audit of it."""
    write(project.path / "project", {"suites/tiny.yaml": RECOVERING})
    folder = kept(on_the_way_to("poisoned", 0.05), tmp_path / "little")
    compared = [f"--baseline={HEALTHY}", f"--corrupted={folder}"]
    return [f"--model={HEALTHY}", *compared, "--no-diagnosis", "--circuit-json=audit.json"]


def outcome() -> tuple[str, str]:
    """The policy's name and the only assertion's outcome, from the JSON."""
    data = json.loads(Path("audit.json").read_text())
    (assertion,) = data["assertions"]
    return data["policy"]["name"], assertion["outcome"]


@pytest.mark.usefixtures("opened_once")
def test_a_file_decides(project: pytest.Pytester, little: list[str]) -> None:
    """What has lost less than a tenth has nothing that could be recovered, unless the file says otherwise."""
    project.runpytest_inprocess(*little)
    assert outcome() == ("default", "SKIPPED")
    project.runpytest_inprocess(*little, "--policy=ours.yaml")
    assert outcome() == ("ours.yaml", "HELD")


@pytest.mark.complete
def test_a_file_decides_in_workers(little: list[str]) -> None:
    command = [str(Path(sys.executable).parent / "pytest"), *little, "-p", "no:hypothesispytest", "-n", "1"]
    subprocess.run([*command, "--policy", "ours.yaml"], capture_output=True, text=True, timeout=300, check=False)
    assert outcome() == ("ours.yaml", "HELD")
