"""Without a model the plugin is as good as not installed, and listing items never pays for torch."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from suite_texts import TINY_SUITE, write

HEAVY = ("torch", "transformers", "transformer_lens", "yaml", "pydantic", "numpy", "circuit_assertions.assertions")
SAYS_WHAT_IS_LOADED = f"""\
import json, pathlib, sys

def pytest_unconfigure():
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    pathlib.Path("loaded.json").write_text(json.dumps(loaded))
"""
# Other people's plugins import what they like; only what this one brings in is looked at.
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
PLUGIN = ("-p", "circuit_assertions.plugin")

MOST_SECONDS_TO_IMPORT = 0.05
MOST_CPU_SECONDS_TO_COLLECT = 1.0


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    files = {
        "suites/tiny.yaml": TINY_SUITE,
        "conftest.py": SAYS_WHAT_IS_LOADED,
        "test_own.py": "def test_own():\n    pass\n\n\ndef test_audit(audit):\n    raise RuntimeError\n",
    }
    return write(pytester.path, files)


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], env=os.environ | ALONE, capture_output=True, text=True, timeout=120, check=False
    )


def loaded() -> list[str]:
    names: list[str] = json.loads(Path("loaded.json").read_text())
    return names


@pytest.mark.usefixtures("project")
def test_without_a_model_no_suite_is_collected_nothing_is_imported_and_audit_skips() -> None:
    finished = run("-m", "pytest", *PLUGIN, "-rs")
    assert finished.returncode == 0, finished.stdout
    assert "collected 2 items" in finished.stdout
    assert "1 passed, 1 skipped" in finished.stdout
    assert "needs a model: pytest --model=path/" in finished.stdout
    assert "circuit" not in finished.stdout.replace("circuit_assertions", "").replace("circuit-assertions", "")
    assert loaded() == []


@pytest.mark.usefixtures("project")
def test_listing_the_items_of_a_model_does_not_import_torch(tiny_folder: Path) -> None:
    finished = run("-m", "pytest", *PLUGIN, "--collect-only", "-q", f"--model={tiny_folder}")
    assert "suites/tiny.yaml::breaks" in finished.stdout
    assert not {"torch", "transformers", "transformer_lens"} & set(loaded())


def cpu_seconds(*args: str) -> float:
    """User and system time of `pytest` with these arguments, the median of three runs."""
    measuring = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'pytest', *sys.argv[1:]], capture_output=True, check=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime)\n"
    )
    return statistics.median(float(run("-c", measuring, *args).stdout) for _ in range(3))


@pytest.mark.skipif(os.name != "posix", reason="measures with getrusage")
def test_listing_the_packaged_suites_costs_less_than_a_second_of_cpu(
    pytester: pytest.Pytester, tiny_folder: Path
) -> None:
    write(pytester.path, {"test_own.py": "def test_own():\n    pass\n"})
    bare = cpu_seconds("--collect-only", "test_own.py")
    listing = cpu_seconds(*PLUGIN, "--collect-only", "--noconftest", f"--model={tiny_folder}")
    assert listing - bare < MOST_CPU_SECONDS_TO_COLLECT


def test_importing_the_plugin_adds_less_than_fifty_milliseconds_to_pytest() -> None:
    measuring = (
        "import pytest, time\n"
        "started = time.process_time()\n"
        "import circuit_assertions.plugin\n"
        "print(time.process_time() - started)\n"
    )
    seconds = [float(run("-c", measuring).stdout) for _ in range(5)]
    assert statistics.median(seconds) < MOST_SECONDS_TO_IMPORT


def test_an_option_of_the_same_long_name_in_a_conftest_is_explained(pytester: pytest.Pytester) -> None:
    write(pytester.path, {"conftest.py": "def pytest_addoption(parser):\n    parser.addoption('--circuit-model')\n"})
    finished = run("-m", "pytest", *PLUGIN)
    assert finished.returncode == pytest.ExitCode.USAGE_ERROR
    assert "-p no:circuit_assertions" in finished.stderr
    assert "Traceback" not in finished.stderr
