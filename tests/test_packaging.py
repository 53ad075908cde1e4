"""What is installed is what is in the project: the wheel holds package and suites, and needs what it declares."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD = PROJECT["tool"]["hatch"]["build"]["targets"]

needs_hatchling = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="hatchling, which builds the wheel, is not installed here"
)


def build(project: Path, what: str, folder: Path) -> Path:
    """Build a wheel or an sdist of a project."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", what, "-d", str(folder)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


@needs_hatchling
def test_the_wheel_holds_the_package_and_the_suites(tmp_path: Path) -> None:
    held = content(build(ROOT, "wheel", tmp_path))
    wanted = {
        str(file.relative_to(ROOT)): file.read_bytes()
        for file in (ROOT / "circuit_assertions").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    for file in (ROOT / "suites").rglob("*"):
        if file.is_file():
            wanted[f"circuit_assertions/{file.relative_to(ROOT)}"] = file.read_bytes()
    packaged = {name: data for name, data in held.items() if ".dist-info/" not in name}
    assert sorted(packaged) == sorted(wanted)
    assert packaged == wanted
    (entries,) = [data.decode() for name, data in held.items() if name.endswith("entry_points.txt")]
    assert "circuit-assertions = circuit_assertions.cli:main" in entries
    assert "circuit_assertions = circuit_assertions.plugin" in entries


@needs_hatchling
def test_the_sdist_builds_the_same_wheel(tmp_path: Path) -> None:
    with tarfile.open(build(ROOT, "sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert content(build(unpacked, "wheel", tmp_path / "again")) == content(build(ROOT, "wheel", tmp_path / "here"))


def test_what_the_wheel_is_told_to_hold_is_there_and_in_the_sdist() -> None:
    """Checked without building, so that it is checked everywhere."""
    sources = [*BUILD["wheel"]["packages"], *BUILD["wheel"]["force-include"]]
    for source in sources:
        assert (ROOT / source).is_dir()
        assert f"/{source}" in BUILD["sdist"]["include"]
    for included in BUILD["sdist"]["include"]:
        assert (ROOT / included.removeprefix("/")).exists(), included
    for named in (PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]):
        assert f"/{named}" in BUILD["sdist"]["include"]
    assert BUILD["wheel"]["force-include"] == {"suites": "circuit_assertions/suites"}  # where packaged.py looks


def _imported(file: Path) -> set[str]:
    """The top-level names of what a file imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_everything_that_is_imported_is_declared() -> None:
    """In an empty environment only what is declared is installed; pydantic brings its core."""
    extras = PROJECT["project"]["optional-dependencies"]
    required = PROJECT["project"]["dependencies"] + extras["peft"] + extras["ray"]
    declared = {canonicalize_name(Requirement(one).name) for one in required} | {"pydantic-core"}
    known = packages_distributions()
    imported = set.union(*(_imported(file) for file in (ROOT / "circuit_assertions").rglob("*.py")))
    for name in sorted(imported - set(sys.stdlib_module_names) - {"circuit_assertions"}):
        homes = {canonicalize_name(home) for home in known.get(name, [name])}  # an extra that is not installed here
        assert homes & declared, f"{name} is imported, and none of {homes} is declared"


TOOLS = {"mypy", "ruff", "types-pyyaml"}  # no test imports them


def test_the_lower_bounds_are_the_versions_that_are_tested() -> None:
    """pyproject.toml and the file of `make test-lowest` agree; torch is tested in one version only."""
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = {}
    for pin in (Requirement(line) for line in lines if not line.startswith("#")):
        (one,) = pin.specifier
        assert one.operator == "=="
        pinned[canonicalize_name(pin.name)] = Version(one.version)
    project = PROJECT["project"]
    stated = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    bounds = {canonicalize_name(one.name): one for one in map(Requirement, stated)}
    for name in bounds.keys() - TOOLS - {"torch", project["name"]}:
        (bound,) = bounds[name].specifier
        assert bound.operator == ">="
        assert pinned[name] == Version(bound.version), name
    torch = canonicalize_name("torch")
    assert bounds[torch].specifier.contains(pinned[torch])
    assert f"torch=={pinned[torch]}" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_what_reads_adapters_is_an_extra_that_the_developers_environment_has() -> None:
    extras = {name: [*map(Requirement, listed)] for name, listed in PROJECT["project"]["optional-dependencies"].items()}
    assert [one.name for one in extras["peft"]] == ["peft"]
    (own,) = [one for one in extras["dev"] if one.name == PROJECT["project"]["name"]]
    assert own.extras == {"mlflow", "peft", "wandb"}
    assert "peft" not in {Requirement(one).name for one in PROJECT["project"]["dependencies"]}
