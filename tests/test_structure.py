"""The package's structure: no circle of imports, none upwards, and no file or function that is too long to read."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.quality_results import OTHER_ROOMS

ROOT = Path(__file__).parents[1]
PACKAGE = "circuit_assertions"
FLOORS = (
    *("heads", "components", "shape", "checkpoints", "tasks", "engine", "measures", "request", "recorded", "cached"),
    *("open_models", "audit"),
    *("assertions", "diagnosis", "tuning"),
    *("results", "records", "mutation", "calibration", "planning", "hunting"),
    *("report", "trackers", "plugin", "sweeps", "cli", "training"),
)
BOTTOM = (
    *("bounded", "collecting", "files", "offered", "ordering", "places", "policy", "printable", "unexpected"),
    "verdict_words",
)
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 60


def trees(root: Path) -> dict[str, ast.Module]:
    """Every module of the package below `root`, by its dotted name."""
    files = sorted((root / PACKAGE).rglob("*.py"))
    names = (".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for file in files)
    return {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in zip(names, files, strict=True)}


def imported(tree: ast.Module, modules: Mapping[str, object]) -> set[str]:
    """The package's modules that one imports anywhere: at its top, for types, or in a function."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in modules}
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module in modules:
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                found.add(name if name in modules else node.module)
    return found


def circles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """The groups of modules of which each reaches every other."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen, ahead = set[str](), [start]
        while ahead:
            new = graph[ahead.pop()] - seen
            seen |= new
            ahead += new
        reached[start] = seen
    left = {name for name in graph if name in reached[name]}
    while left:
        first = min(left)
        group = {other for other in left if other in reached[first] and first in reached[other]}
        yield sorted(group)
        left -= group


def floor(module: str) -> int:
    """How high a module stands; -1 for those that everything may import."""
    room = module.split(".")[1] if "." in module else ""
    return -1 if room in ("", *BOTTOM) else FLOORS.index(room)


def upwards(graph: Mapping[str, set[str]]) -> list[str]:
    entry = f"{PACKAGE}.__main__"  # which only starts the command line
    return [
        f"{name} imports {other}"
        for name in graph
        if name != entry
        for other in sorted(graph[name])
        if floor(other) > floor(name)
    ]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    modules = trees(ROOT)
    return {name: imported(tree, modules) - {name} for name, tree in modules.items()}


def test_no_modules_import_each_other(graph: dict[str, set[str]]) -> None:
    assert list(circles(graph)) == []


def test_nothing_imports_upwards(graph: dict[str, set[str]]) -> None:
    assert upwards(graph) == []


def test_an_audit_through_pytest_enters_none_of_the_rooms_that_the_benchmark_of_verdicts_leaves_out(
    graph: dict[str, set[str]],
) -> None:
    reached, ahead = set[str](), [name for name in graph if name.startswith(f"{PACKAGE}.plugin")]
    while ahead:
        new = graph[ahead.pop()] - reached
        reached |= new
        ahead += new
    rooms = {name.split(".")[1] for name in reached if "." in name}
    assert {"audit", "diagnosis", "measures"} <= rooms
    assert not rooms & set(OTHER_ROOMS)


def test_no_file_and_no_function_is_too_long() -> None:
    for file in sorted((ROOT / PACKAGE).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        assert text.count("\n") <= MOST_LINES, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                assert length <= MOST_LINES_OF_A_FUNCTION, f"{file}: {node.name} has {length} lines"


def test_the_checks_find_what_they_look_for(tmp_path: Path) -> None:
    (tmp_path / PACKAGE / "plugin").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "heads": "def f():\n    from circuit_assertions.plugin import a\n",
        "files": "import circuit_assertions.heads\n",
        "plugin/__init__": "",
        "plugin/a": "if TYPE_CHECKING:\n    from circuit_assertions.plugin.b import B\n",
        "plugin/b": "from circuit_assertions.plugin import a, c\n",
        "plugin/c": "from circuit_assertions import __version__\n",
    }.items():
        (tmp_path / PACKAGE / f"{name}.py").write_text(text)
    modules = trees(tmp_path)
    graph = {name: imported(tree, modules) - {name} for name, tree in modules.items()}
    assert list(circles(graph)) == [[f"{PACKAGE}.plugin.a", f"{PACKAGE}.plugin.b"]]
    assert upwards(graph) == [
        f"{PACKAGE}.files imports {PACKAGE}.heads",
        f"{PACKAGE}.heads imports {PACKAGE}.plugin.a",
    ]
