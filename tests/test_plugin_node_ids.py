"""Node ids are unique and can be typed again, wherever a suite lies, and no line of the report is lost."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from suite_texts import write
from test_plugin_gate import BREAKS, HOLDS, gate_of, run, suite

import circuit_assertions
from circuit_assertions.assertions.task_lookup import find_task
from circuit_assertions.cli import main
from circuit_assertions.places import packaged_name, packaged_suites, suite_path

pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.fixture
def outside(pytester: pytest.Pytester, tmp_path: Path) -> Path:
    """A folder outside the root of the project that pytest is started in."""
    write(pytester.path, {"pytest.ini": "[pytest]\n"})
    files = {"one/a.yaml": suite(BREAKS), "two/a.yaml": suite(BREAKS), "one/b.yaml": suite(BREAKS)}
    return write(tmp_path / "outside", files)


def collected(pytester: pytest.Pytester, folder: Path, *args: str) -> list[str]:
    result = run(pytester, folder, "--collect-only", "-q", *args)
    assert result.ret == 0
    return [line for line in result.outlines if "::" in line]


@pytest.mark.parametrize(
    ("args", "suites"),
    [
        (["one/a.yaml", "two/a.yaml"], 2),
        (["one", "two"], 3),
        (["one/a.yaml", "one/b.yaml"], 2),
        (["one/a.yaml", "link/a.yaml"], 2),
        (["one/a.yaml", "linked.yaml"], 2),
        (["one/a.yaml", "one/a.yaml"], 1),
        (["one/a.yaml", "one"], 2),
    ],
)
@pytest.mark.complete
def test_suites_outside_the_root_have_node_ids_of_their_own(
    pytester: pytest.Pytester, outside: Path, tiny_folder: Path, args: list[str], suites: int
) -> None:
    (outside / "link").symlink_to(outside / "one")
    (outside / "linked.yaml").symlink_to(outside / "one" / "a.yaml")
    paths = [str(outside / arg) for arg in args]
    root = f"--rootdir={pytester.path}"  # from paths outside alone pytest would choose another root
    listed = collected(pytester, tiny_folder, root, *paths)
    assert len(listed) == len(set(listed)) == suites
    for nodeid in listed:
        assert collected(pytester, tiny_folder, root, nodeid) == [nodeid]
    result = run(pytester, tiny_folder, root, "--junitxml=out.xml", *paths)
    assert gate_of(result) == f"GATE: FAIL ({suites} broken)"
    assert sum(line.startswith("  BROKEN ") for line in result.outlines) == suites
    cases = [(case.get("classname"), case.get("name")) for case in ElementTree.parse("out.xml").iter("testcase")]
    assert len(set(cases)) == len(cases) == suites


def test_what_failed_outside_the_root_is_run_again_by_last_failed(
    pytester: pytest.Pytester, outside: Path, tiny_folder: Path
) -> None:
    write(outside, {"two/a.yaml": suite(HOLDS)})
    write(pytester.path, {"suites/a.yaml": suite(BREAKS, HOLDS)})
    args = ("-p", "no:hypothesispytest", f"--model={tiny_folder}", f"--rootdir={pytester.path}", "suites", str(outside))
    pytester.runpytest_inprocess(*args).assert_outcomes(failed=3, passed=2)
    pytester.runpytest_inprocess(*args, "--lf").assert_outcomes(failed=3)


@pytest.mark.complete
@pytest.mark.slow
def test_workers_report_every_suite_outside_the_root(
    pytester: pytest.Pytester, outside: Path, tiny_folder: Path
) -> None:
    result = run(pytester, tiny_folder, "-n", "2", f"--rootdir={pytester.path}", str(outside))
    assert gate_of(result) == "GATE: FAIL (3 broken)"


# -- packaged suites -----------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package as if it were installed here: with the suites inside it."""
    package = tmp_path / "site-packages" / "circuit_assertions"
    files = {"suites/ioi.yaml": suite(HOLDS, BREAKS), "suites/other.yaml": suite(BREAKS), "__init__.py": ""}
    write(package, files)
    monkeypatch.setattr(circuit_assertions, "__file__", str(package / "__init__.py"))
    return package / "suites"


def test_packaged_suites_are_called_by_name_and_run_by_it(
    pytester: pytest.Pytester, installed: Path, tiny_folder: Path
) -> None:
    write(pytester.path, {"pytest.ini": "[pytest]\n"})
    result = run(pytester, tiny_folder)
    assert gate_of(result) == "GATE: FAIL (2 broken, 1 held)"
    result.stdout.no_fnmatch_line("*site-packages*")
    result.stdout.fnmatch_lines(
        ["  reproduce pytest --model=* packaged:ioi.yaml::breaks", "FAILED packaged:ioi.yaml::breaks *"]
    )
    assert collected(pytester, tiny_folder, "packaged:ioi.yaml::breaks") == ["packaged:ioi.yaml::breaks"]
    assert collected(pytester, tiny_folder, "packaged:other.yaml") == ["packaged:other.yaml::breaks"]
    assert len(collected(pytester, tiny_folder, "--circuit-suites=packaged:")) == 3
    assert installed.is_dir()


@pytest.mark.usefixtures("installed")
def test_what_failed_in_a_packaged_suite_is_run_again_beside_others(
    pytester: pytest.Pytester, tiny_folder: Path
) -> None:
    write(pytester.path, {"pytest.ini": "[pytest]\n", "suites/a.yaml": suite(BREAKS, HOLDS)})
    args = ("-p", "no:hypothesispytest", f"--model={tiny_folder}", "suites", "packaged:")
    pytester.runpytest_inprocess(*args).assert_outcomes(failed=3, passed=2)
    pytester.runpytest_inprocess(*args, "--lf").assert_outcomes(failed=3)


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_an_unknown_packaged_suite_is_a_mistake(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    result = run(pytester, tiny_folder, "packaged:oi.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_other_verbs_read_packaged_suites_by_name_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "packaged:ioi.yaml"]) == 0
    assert capsys.readouterr().out.endswith("ioi.yaml: valid\n")
    assert find_task("packaged:ioi.yaml::ioi")[1].kind == "ioi"


def test_a_name_and_a_path_lead_to_the_same_file(installed: Path) -> None:
    for file in (installed / "ioi.yaml", installed / "circuits" / "x.yaml", installed):
        name = packaged_name(file)
        assert name is not None
        assert suite_path(name) == file
        assert suite_path(f"../{name}") == file  # as pytest shows a node id from below its root
    assert packaged_name(installed.parent / "x.yaml") is None
    assert suite_path("suites/ioi.yaml") == Path("suites/ioi.yaml")


def test_a_checkouts_own_suites_keep_their_paths() -> None:
    checkout = packaged_suites().parent
    assert packaged_name(packaged_suites() / "ioi.yaml", checkout) is None
    assert packaged_name(packaged_suites() / "ioi.yaml", checkout.parent) == "packaged:ioi.yaml"
