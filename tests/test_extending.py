"""docs/extending.md as it stands: its files are one package, which adds a measure, a task, a chain, and two more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from auditing import HEALTHY
from said import says

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
_FILE = re.compile(r"^```\w+\n# (\S+\.(?:py|toml|yaml))\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def install(folder: Path) -> None:
    """Write the page's files, and what `pip install` would have made of its pyproject.toml."""
    for name, text in _FILE.findall(PAGE.read_text(encoding="utf-8")):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (folder / "circuit_extras" / "__init__.py").touch()
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]
    lines = [line for group, own in points.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in own.items()))]
    metadata = folder / "circuit_extras-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extras")
    install(folder)
    (folder / "pyproject.toml").unlink()
    return folder


def run(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in the project, where the page's package is installed."""
    env = {**os.environ, "PYTHONPATH": str(project), "COLUMNS": "200"}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=600, check=False)


def test_the_page_has_every_file_that_it_speaks_of(project: Path) -> None:
    made = {file.relative_to(project).as_posix() for file in project.rglob("*.*") if file.is_file()}
    named = {f"circuit_extras/{name}.py" for name in ("entropy", "copied_token", "spread", "markdown")}
    assert made >= named | {"circuit_extras/suites/chains/copied-token.yaml", "suites/extras.yaml"}


def test_suites_are_checked_with_them(project: Path) -> None:
    done = run(project, "circuit_assertions", "validate", "suites/extras.yaml", "circuit_extras/suites/chains")
    assert done.returncode == 0, done.stdout + done.stderr
    listed = run(project, "circuit_assertions", "measures").stdout + run(project, "circuit_assertions", "tasks").stdout
    assert says(listed, "attention-entropy", "copied-token", "after-asked")
    wrong = (project / "suites" / "extras.yaml").read_text().replace("spread-at-most: 1000", "spread-at-most: -1")
    (project / "wrong.yaml").write_text(wrong)
    refused = run(project, "circuit_assertions", "validate", "wrong.yaml")
    assert refused.returncode == 1
    assert says(refused.stdout + refused.stderr, "wrong.yaml:15:14", "never")


@pytest.mark.slow
@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.complete)], ids=["alone", "with-workers"]
)
def test_a_suite_is_judged_and_written_with_them(project: Path, workers: tuple[str, ...]) -> None:
    written = project / "verdicts.md"
    written.unlink(missing_ok=True)
    options = [f"--model={HEALTHY}", "--circuit-output=markdown:verdicts.md", "-p", "no:cacheprovider", *workers]
    done = run(project, "pytest", *options, "suites/extras.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ")[1:] for line in written.read_text().splitlines() if line.startswith(f"| {HEALTHY}")]
    assert rows == [["some-head-attends-sharply", "HELD |"], ["the-answers-vary-little", "HELD |"]]
    assert "GATE: PASS" in written.read_text()


@pytest.mark.complete
@pytest.mark.slow
def test_discover_follows_the_chain_of_the_task(project: Path) -> None:
    options = [f"--model={HEALTHY}", "--task=copied-token", "--device=cpu", "--output=found.yaml"]
    done = run(project, "circuit_assertions", "discover", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    found = (project / "found.yaml").read_text()
    assert says(found, "pair-completer", "copied-token")


def test_a_folder_of_suites_that_is_not_there_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    points = "[circuit_assertions.suites]\nbroken = nowhere.suites\n"
    (tmp_path / "broken-1.0.dist-info" / "entry_points.txt").write_text(points)
    packaged = PAGE.parents[1] / "suites" / "ioi.yaml"
    done = run(tmp_path, "pytest", f"--model={HEALTHY}", "--collect-only", "-q", str(packaged))
    assert done.returncode == 2
    assert says(done.stdout, "folder of suites 'broken'", "nowhere.suites of broken")
    assert "places.py" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("markdwn:x.md", ("'markdwn'", "'markdown'")),
        ("markdown", ("--circuit-output=markdown", "NAME:FILE")),
        ("markdown:nowhere/x.md", ("nowhere/x.md", "folder")),
    ],
)
@pytest.mark.complete
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    said: str, named: tuple[str, ...], project: Path
) -> None:
    done = run(project, "pytest", f"--model={HEALTHY}", f"--circuit-output={said}", "suites/extras.yaml")
    assert done.returncode == 4
    assert says(done.stderr, *named)
