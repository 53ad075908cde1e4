"""The recipes of `docs/ci/`: they are YAML, name only options that there are, and gate as they say."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from circuit_assertions.results import AuditResult

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "ci"
FILES = sorted(FOLDER.glob("*.yml"))
CHECKPOINTS = ROOT / "fixtures" / "checkpoints"


def scripts(value: Any) -> list[str]:
    """Every text that a shell runs."""
    if isinstance(value, dict):
        own = [value["run"]] if isinstance(value.get("run"), str) else []
        own += [one for one in value.get("script", []) if isinstance(one, str)]
        return own + [text for one in value.values() for text in scripts(one)]
    return [text for one in value for text in scripts(one)] if isinstance(value, list) else []


def audits(file: Path) -> list[str]:
    """What judges a candidate; what records the baseline comes before it."""
    return [text for text in scripts(yaml.safe_load(file.read_text("utf-8"))) if "--baseline-record" in text]


def recording(file: Path) -> list[str]:
    return [text for text in scripts(yaml.safe_load(file.read_text("utf-8"))) if "--circuit-save" in text]


def test_there_is_a_workflow_an_action_and_a_job() -> None:
    assert [file.name for file in FILES] == ["action.yml", "github-workflow.yml", "gitlab-ci.yml"]
    action, workflow, job = (yaml.safe_load(file.read_text("utf-8")) for file in FILES)
    assert action["runs"]["using"] == "composite"
    assert all("shell" in step for step in action["runs"]["steps"] if "run" in step)
    assert set(workflow["jobs"]) == {"audit"}
    assert job["circuits"]["artifacts"]["reports"]["junit"].endswith(".xml")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_option_of_pytest_exists(file: Path, pytester: pytest.Pytester) -> None:
    known = set(re.findall(r"--[\w-]+", pytester.runpytest_inprocess("--help").stdout.str()))
    ((script,), (before,)) = audits(file), recording(file)
    given, recorded = (set(re.findall(r"(?<!\S)--[\w-]+", text)) for text in (script, before))
    assert {"--model", "--baseline-record", "--circuit-report"} <= given <= known
    assert {"--model", "--circuit-save"} <= recorded <= known | {"--records"}  # of `show`


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_value_of_a_user_becomes_part_of_a_script(file: Path) -> None:
    for script in scripts(yaml.safe_load(file.read_text("utf-8"))):
        assert "${{" not in script
        assert not re.search(r'(?<!")\$(?!CI_PROJECT_DIR)[A-Z]', re.sub(r'"[^"]*"', '""', script))


def run(script: str, folder: Path, model: str) -> subprocess.CompletedProcess[str]:
    """Run a step of the workflow for one of the embedded checkpoints."""
    names = {"MODEL": str(CHECKPOINTS / model), "BASELINE": str(CHECKPOINTS / "healthy"), "OMP_NUM_THREADS": "1"}
    names |= {"GITHUB_STEP_SUMMARY": str(folder / "summary.md"), "GITHUB_ACTIONS": "true"}
    names |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "CIRCUIT_ASSERTIONS_CACHE": ""}
    return subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, env=os.environ | names, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose baseline is recorded, as the first run of the workflow leaves it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "suites").symlink_to(ROOT / "suites")
    (script,) = recording(FOLDER / "github-workflow.yml")
    done = run(script, folder, "healthy")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.complete
@pytest.mark.slow
def test_the_baseline_is_recorded_once(project: Path) -> None:
    records = list((project / ".circuit-assertions" / "records").glob("*.json"))
    (script,) = recording(FOLDER / "github-workflow.yml")
    assert run(script, project, "healthy").returncode == 0
    assert len(records) == 1
    assert list((project / ".circuit-assertions" / "records").glob("*.json")) == records


@pytest.mark.complete
@pytest.mark.slow
@pytest.mark.parametrize(("model", "passes"), [("recovered", True), ("poisoned", False), ("bypassed", False)])
def test_the_workflow_passes_the_recovered_checkpoint_alone(model: str, passes: bool, project: Path) -> None:
    (script,) = audits(FOLDER / "github-workflow.yml")
    (project / "summary.md").unlink(missing_ok=True)
    done = run(script, project, model)
    assert done.returncode == (0 if passes else 1), done.stdout + done.stderr
    result = AuditResult.model_validate_json((project / "circuit-report" / "audit.json").read_text("utf-8"))
    assert result.gate.passed == passes
    assert (project / "circuit-report" / "index.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert (project / "summary.md").read_text("utf-8").startswith("## ")
    assert ("::error " in done.stdout) != passes


@pytest.mark.complete
@pytest.mark.slow
def test_a_second_run_takes_at_most_a_third_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "suites").symlink_to(ROOT / "suites")
    (before,), (script,) = (steps(FOLDER / "github-workflow.yml") for steps in (recording, audits))
    seconds = []
    for _ in range(2):
        begun = cpu_seconds()
        assert run(before, tmp_path, "recovered").returncode == 0
        assert run(script, tmp_path, "recovered").returncode == 0
        seconds.append(cpu_seconds() - begun)  # what others do on the machine meanwhile is not in it
    assert seconds[1] <= seconds[0] / 3


def cpu_seconds() -> float:
    """Of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
