"""pytest-xdist: one checkpoint's items on one worker, the same report, the user's own choice respected."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from suite_texts import TINY_SUITE, write

from circuit_assertions.plugin.workers import group_of, scope_of

OTHER_SUITE = TINY_SUITE.replace("suite: tiny", "suite: other")


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    files = {"suites/a.yaml": TINY_SUITE, "suites/b.yaml": OTHER_SUITE, "pytest.ini": "[pytest]\nmarkers = gate: x\n"}
    write(folder := pytester.mkdir("project"), files)
    os.chdir(folder)
    return folder


def run(*args: str) -> str:
    """The output of `pytest` as a user starts it; failures are part of the suite."""
    command = [str(Path(sys.executable).parent / "pytest"), *args]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == pytest.ExitCode.TESTS_FAILED, finished.stdout + finished.stderr
    return finished.stdout


def audit_of(output: str) -> str:
    return output.partition(" circuit audit ")[2].partition("short test summary")[0]


@pytest.mark.usefixtures("opened_once")
def test_workers_share_out_suites_and_report_as_one_process_does(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path
) -> None:
    alone = pytester.runpytest_inprocess(f"--model={tiny_folder}").stdout.str()
    spread = run("--model", str(tiny_folder), "-n", "2", "-v", "-p", "no:hypothesispytest")
    assert audit_of(spread) == audit_of(alone) != ""
    assert re.findall(r"^GATE: .*", spread, re.MULTILINE) == re.findall(r"^GATE: .*", alone, re.MULTILINE) != []
    assert spread.count(" circuit audit ") == 1
    assert "scheduling tests via CheckpointScheduling" in spread
    pairs = set(re.findall(r"\[(gw\d)\] \[.*(suites/[ab]\.yaml)::", spread))
    assert sorted(suite for _, suite in pairs) == ["suites/a.yaml", "suites/b.yaml"]  # each on one worker only

    again = pytester.runpytest_inprocess(f"--model={tiny_folder}", "--lf", "--collect-only", "-q")
    failed = [line for line in again.outlines if "::" in line]
    assert failed == ["suites/a.yaml::breaks", "suites/b.yaml::breaks"]  # node ids are those without workers


@pytest.mark.usefixtures("project")
@pytest.mark.complete
def test_a_distribution_of_the_users_own_is_respected(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    # Nothing is run, so that only the scheduler is seen.
    args = (f"--model={tiny_folder}", "-n", "1", "-v", "-k", "by-nobody", "--dist=loadfile")
    pytester.runpytest_inprocess(*args).stdout.fnmatch_lines(["scheduling tests via LoadFileScheduling"])


def test_items_of_one_suite_and_checkpoint_go_together() -> None:
    assert scope_of("suites/ioi.yaml::a[checkpoint-10]") == scope_of("suites/ioi.yaml::b[checkpoint-10]")
    assert scope_of("suites/ioi.yaml::a[checkpoint-10]") != scope_of("suites/ioi.yaml::a[checkpoint-20]")
    assert scope_of("suites/ioi.yaml::a") != scope_of("suites/induction.yaml::a")
    assert scope_of("tests/test_x.py::test_a[b.yaml::c]") == "tests/test_x.py::test_a[b.yaml::c]"


def test_groups_tell_checkpoints_and_tasks_apart_and_can_stand_in_a_node_id() -> None:
    groups = {group_of(model, task) for model in ("a", "b/c") for task in ("ioi", "x y")}
    assert len(groups) == 4
    assert all(group.isalnum() for group in groups)
