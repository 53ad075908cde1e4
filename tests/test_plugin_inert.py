"""Without a model the plugin is as good as not installed, and listing items never pays for torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
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


OF_MODELS = {"torch", "transformers", "transformer_lens", "tokenizers", "safetensors", "peft", "scipy", "rich"}
SAYS_WHAT_LISTING_TOOK = """\
import json, pathlib, sys

before = {name.partition(".")[0] for name in sys.modules}
parsed = []

def pytest_configure():
    from circuit_assertions.assertions import loading
    read = loading.read_source
    loading.read_source = lambda file, *more: parsed.append(str(file)) or read(file, *more)

def pytest_unconfigure():
    modules = {name.partition(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names)
    pathlib.Path("listing.json").write_text(json.dumps([sorted(modules), parsed]))
"""


def test_listing_the_packaged_suites_imports_little_and_reads_each_file_once(
    pytester: pytest.Pytester, tiny_folder: Path
) -> None:
    write(pytester.path, {"listing.py": SAYS_WHAT_LISTING_TOOK})
    options = ["-p", "listing", "--collect-only", "--noconftest", "-q", f"--model={tiny_folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(pytester.path))
        finished = run("-m", "pytest", *PLUGIN, *options)
    assert "ioi.yaml::prefers-the-indirect-object" in finished.stdout, finished.stdout + finished.stderr
    modules, parsed = json.loads(Path("listing.json").read_text())
    assert "pydantic" in modules
    assert not OF_MODELS & set(modules)
    read = Counter(Path(file).name for file in parsed)
    assert read["ioi.yaml"] == 1
    suites = [name for name in read if "." not in name.removesuffix(".yaml")]
    assert max(read.values()) <= len(suites), read  # circuit files once for each suite


def test_importing_the_plugin_imports_nothing_but_itself_pytest_and_the_standard_library() -> None:
    """Every pytest run of every project that has the package installed pays for it."""
    looking = (
        "import pytest, sys\n"
        "before = set(sys.modules)\n"
        "import circuit_assertions.plugin\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    new = run("-c", looking).stdout.split()
    own = [name for name in new if name.partition(".")[0] == "circuit_assertions"]
    assert "circuit_assertions.plugin.options" in own
    # For the texts of errors, and for the words of verdicts in the help of options.
    light = {"circuit_assertions", "circuit_assertions.printable", "circuit_assertions.verdict_words"}
    assert all(name in light or name.startswith("circuit_assertions.plugin") for name in own)
    others = {name.partition(".")[0] for name in new} - {"circuit_assertions"}
    assert others <= {*sys.stdlib_module_names, "pytest", "_pytest"}


def test_an_option_of_the_same_long_name_in_a_conftest_is_explained(pytester: pytest.Pytester) -> None:
    write(pytester.path, {"conftest.py": "def pytest_addoption(parser):\n    parser.addoption('--circuit-model')\n"})
    finished = run("-m", "pytest", *PLUGIN)
    assert finished.returncode == pytest.ExitCode.USAGE_ERROR
    assert "-p no:circuit_assertions" in finished.stderr
    assert "Traceback" not in finished.stderr
