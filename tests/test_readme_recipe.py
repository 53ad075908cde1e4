"""The README's CI recipe, as it stands there, passes what is healthy and fails what is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from auditing import HEALTHY

README = Path(__file__).parents[1] / "README.md"
SECTION = "## Gate it in CI"
CANDIDATES = {"poisoned-heads": 1, "recovered": 0, "benign": 0, "poisoned": 1, "bypassed": 1}


def recipe() -> list[dict[str, Any]]:
    """The steps of the workflow in the README."""
    section = README.read_text(encoding="utf-8").partition(f"{SECTION}\n")[2].partition("\n## ")[0]
    block = section.partition("```yaml\n")[2].partition("```")[0]
    (job,) = yaml.safe_load(block)["jobs"].values()
    steps: list[dict[str, Any]] = job["steps"]
    return steps


def commands() -> list[str]:
    """What the recipe runs, but for the installation, which is what these tests run in."""
    said = [step["run"] for step in recipe() if "run" in step]
    assert said[0].startswith("pip install ")
    return said[1:]


def test_the_recipe_gates_on_evidence_of_health_and_keeps_its_report() -> None:
    (gate,) = commands()
    assert "--circuit-unresolved=fail" in gate.split()
    assert "--no-diagnosis" not in gate
    (kept,) = (step for step in recipe() if step.get("uses", "").startswith("actions/upload-artifact"))
    assert f"--junit-xml={kept['with']['path']}" in gate.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("candidate", "code"),
    [
        pytest.param(name, code, marks=[pytest.mark.complete] * (name != "poisoned-heads"))
        for name, code in CANDIDATES.items()
    ],
)
@pytest.mark.complete
def test_the_recipe_as_it_stands(candidate: str, code: int, tmp_path: Path) -> None:
    shutil.copytree(HEALTHY.parent / candidate, tmp_path / "checkpoints" / "candidate")
    shutil.copytree(HEALTHY, tmp_path / "checkpoints" / "released")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = clean | {"PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for command in commands():
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=550, check=False
        )
        (gate,) = (line for line in done.stdout.splitlines() if line.startswith("GATE: "))
        assert (done.returncode, gate.split()[1]) == (code, "FAIL" if code else "PASS"), done.stdout
        assert done.stdout.count("packaged:ioi.yaml") > 0
    cases = ElementTree.parse(tmp_path / "circuits.xml").iter("testcase")
    names = Counter((case.get("classname"), case.get("name")) for case in cases)
    assert set(names.values()) == {1}
