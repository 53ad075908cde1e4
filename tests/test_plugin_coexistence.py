"""Projects with options, configuration keys or fixtures of the same names work as if this package were not there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from suite_texts import TINY_SUITE, write

from circuit_assertions.plugin.old_keys import RENAMED
from circuit_assertions.plugin.short_options import FLAGS, PLAIN, WITH_A_VALUE, translated

Run = Callable[..., pytest.RunResult]

# How another project declares an option, what is given on its command line, and what its test expects to read.
STYLES: dict[str, tuple[dict[str, Any], str | None, object]] = {
    "value": ({}, "small", "small"),
    "own dest": ({"dest": "their_own", "default": "medium"}, "small", "small"),
    "default": ({"default": "medium"}, None, "medium"),
    "flag": ({"action": "store_true"}, "", True),
    "flag left out": ({"action": "store_true"}, None, False),
    "choices": ({"choices": ["small", "large"], "default": "large"}, "small", "small"),
    "repeated": ({"action": "append"}, "small", ["small"]),
}


def declaration(option: str, attributes: dict[str, Any]) -> str:
    return f"def pytest_addoption(parser):\n    parser.addoption({option!r}, **{attributes!r})\n"


def reads(option: str, expected: object) -> str:
    return f"def test_own(request):\n    assert request.config.getoption({option!r}) == {expected!r}\n"


def given(option: str, value: str | None, attached: bool) -> list[str]:
    if value is None:
        return []
    return [f"{option}={value}"] if value and attached else [option, *([value] if value else [])]


def distribution(folder: Path, text: str) -> None:
    """An installed plugin: what `pip install` leaves of it."""
    info = "Metadata-Version: 2.1\nName: other-plugin\nVersion: 1.0\n"
    write(
        folder,
        {
            "other_plugin.py": text,
            "other_plugin-1.0.dist-info/METADATA": info,
            "other_plugin-1.0.dist-info/entry_points.txt": "[pytest11]\nother_plugin = other_plugin\n",
        },
    )


ORDERS = (
    "conftest of the root",
    "conftest of a folder that is given",
    "conftest names a plugin",
    "-p",
    "addopts -p",
    "PYTEST_PLUGINS",
    "installed, loaded before",
    "installed, loaded after",
)


@pytest.fixture
def other(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], list[str]]:
    """Puts somebody else's plugin into a project, and says with what arguments its tests are run."""

    def put(order: str, text: str) -> list[str]:
        folder = pytester.path
        files = {"pytest.ini": "[pytest]\n"}
        if order == "conftest of the root":
            files["conftest.py"] = text
        elif order == "conftest of a folder that is given":
            files["sub/conftest.py"] = text
        elif order == "addopts -p":
            files["pytest.ini"] = "[pytest]\naddopts = -p other_plugin\n"
        elif order == "conftest names a plugin":
            files["conftest.py"] = "pytest_plugins = ['other_plugin']\n"
        if "installed" in order:
            distribution(folder / "installed", text)
            place = 0 if order.endswith("before") else len(sys.path)
            monkeypatch.setattr(sys, "path", [*sys.path[:place], str(folder / "installed"), *sys.path[place:]])
        elif "conftest of" not in order:
            files["plugins/other_plugin.py"] = text
            monkeypatch.syspath_prepend(folder / "plugins")
        if order == "PYTEST_PLUGINS":
            monkeypatch.setenv("PYTEST_PLUGINS", "other_plugin")
        write(folder, files)
        return ["-p", "other_plugin"] if order == "-p" else []

    return put


@pytest.mark.family(main="order", whole=("conftest of the root", "installed, loaded after"), turns=("style",))
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("order", ORDERS)
def test_an_option_model_of_somebody_else_is_theirs(
    pytester: pytest.Pytester, other: Callable[[str, str], list[str]], order: str, style: str
) -> None:
    attributes, value, expected = STYLES[style]
    more = other(order, declaration("--model", attributes))
    sub = order == "conftest of a folder that is given"
    write(pytester.path, {"sub/test_own.py": reads("--model", expected)})
    for attached in (True, False):
        asked = [*more, *(["sub"] if sub else []), *given("--model", value, attached)]
        result = pytester.runpytest_inprocess(*asked)
        result.assert_outcomes(passed=1)


@pytest.mark.family(main="option", whole=("--model",), turns=("order",))
@pytest.mark.parametrize("order", ["conftest of the root", "-p", "installed, loaded after"])
@pytest.mark.parametrize("option", PLAIN)
def test_every_plain_option_may_be_somebody_elses(
    pytester: pytest.Pytester, other: Callable[[str, str], list[str]], option: str, order: str
) -> None:
    style = "flag" if option in FLAGS else "value"
    attributes, value, expected = STYLES[style]
    more = other(order, declaration(option, attributes))
    write(pytester.path, {"test_own.py": reads(option, expected)})
    pytester.runpytest_inprocess(*more, *given(option, value, attached=False)).assert_outcomes(passed=1)
    shown = pytester.runpytest_inprocess(*more, "--help")
    assert shown.ret == 0
    assert len(re.findall(rf"\n  {option}(?![\w-])", shown.stdout.str())) == 1
    assert PLAIN[option] in shown.stdout.str()


@pytest.mark.parametrize("option", PLAIN)
def test_a_conftest_that_is_loaded_while_tests_are_collected_may_declare_them(
    pytester: pytest.Pytester, option: str
) -> None:
    """Its option comes too late for the command line, and has its default."""
    write(
        pytester.path,
        {
            "a/b/conftest.py": declaration(option, {"default": "medium"}),
            "a/b/test_own.py": reads(option, "medium"),
        },
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_flag_of_a_folder_takes_the_folder_behind_it_as_a_path(pytester: pytest.Pytester) -> None:
    write(
        pytester.path,
        {
            "sub/conftest.py": declaration("--model", {"action": "store_true"}),
            "sub/deep/test_own.py": reads("--model", True),
        },
    )
    for path in ("sub", "sub/deep", f"{pytester.path / 'sub'}"):
        pytester.runpytest_inprocess("--model", path).assert_outcomes(passed=1)


def test_a_plugin_object_may_declare_them(pytester: pytest.Pytester) -> None:
    class Other:
        def pytest_addoption(self, parser: pytest.Parser) -> None:
            for option in PLAIN:
                parser.addoption(option, default="medium")

    write(pytester.path, {f"test_{number}.py": reads(option, "medium") for number, option in enumerate(PLAIN)})
    pytester.runpytest_inprocess(plugins=[Other()]).assert_outcomes(passed=len(PLAIN))


@pytest.mark.parametrize("order", ORDERS)
def test_where_somebody_else_has_them_the_long_spellings_audit(
    pytester: pytest.Pytester, other: Callable[[str, str], list[str]], tiny_folder: Path, order: str
) -> None:
    both = "def pytest_addoption(parser):\n    parser.addoption('--model')\n    parser.addoption('--baseline')\n"
    more = other(order, both)
    write(pytester.path, {"sub/tiny.yaml": TINY_SUITE})
    asked = [f"--circuit-model={tiny_folder}", f"--circuit-baseline={tiny_folder}", "--model=theirs", "sub/tiny.yaml"]
    result = pytester.runpytest_inprocess(*more, *asked, "--collect-only", "-q", "-m", "gate", "-W", "ignore")
    assert "sub/tiny.yaml::breaks" in result.stdout.str()


@pytest.mark.usefixtures("opened_once")
def test_the_command_that_reproduces_a_failure_is_spelled_as_it_works_here(
    pytester: pytest.Pytester, tiny_folder: Path
) -> None:
    write(pytester.path, {"suites/tiny.yaml": TINY_SUITE, "conftest.py": declaration("--model", {})})
    write(
        pytester.path,
        {
            "conftest.py": "def pytest_addoption(parser):\n    parser.addoption('--model')\n"
            "    parser.addoption('--baseline')\n"
        },
    )
    skipped = pytester.runpytest_inprocess(
        f"--circuit-model={tiny_folder}", "-o", "markers=gate", "-k", "against", "-rs"
    )
    skipped.stdout.fnmatch_lines(["SKIPPED * give one with --circuit-baseline=path/"])
    markers = ["-o", "markers=gate"]
    asked = [f"--circuit-model={tiny_folder}", "--model-dtype=float64", "-k", "breaks"]
    result = pytester.runpytest_inprocess(*markers, *asked)
    result.stdout.fnmatch_lines([f"*pytest --circuit-model={tiny_folder} --model-dtype=float64 suites/tiny.yaml::*"])


SPELLINGS: dict[str, Callable[[str], list[str]]] = {
    "--model X": lambda path: ["--model", path],
    "--model=X": lambda path: [f"--model={path}"],
    "--circuit-model X": lambda path: ["--circuit-model", path],
    "--circuit-model=X": lambda path: [f"--circuit-model={path}"],
}


@pytest.mark.family(main="place", whole=("command line",), turns=("spelling",))
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("place", ["command line", "PYTEST_ADDOPTS", "addopts", "@file"])
def test_where_nobody_else_has_it_every_spelling_in_every_place_audits(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, spelling: str, place: str
) -> None:
    (pytester.path / "inside").symlink_to(tiny_folder)
    args = SPELLINGS[spelling]("inside")
    ini = "[pytest]\nmarkers = gate\n"
    if place == "PYTEST_ADDOPTS":
        monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(args))
    elif place == "addopts":
        ini += f"addopts = {' '.join(args)}\n"
    elif place == "@file":
        write(pytester.path, {"args.txt": "\n".join(args)})
    write(pytester.path, {"suites/tiny.yaml": TINY_SUITE, "pytest.ini": ini})
    asked = args if place == "command line" else ["@args.txt"] if place == "@file" else []
    result = pytester.runpytest_inprocess(*asked, "--collect-only", "-q", "-m", "gate")
    assert (result.ret, result.outlines[0]) == (0, "suites/tiny.yaml::breaks")


def subprocess_run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", *args],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.family(main="named", turns=("model",))
@pytest.mark.parametrize("model", [["--model", "inside"], ["--model=inside"]], ids=" ".join)
@pytest.mark.parametrize("named", ["-p", "conftest"])
@pytest.mark.complete
def test_without_entry_points_the_plugin_is_named_and_the_short_options_work(
    pytester: pytest.Pytester, tiny_folder: Path, named: str, model: list[str]
) -> None:
    write(pytester.path, {"suites/tiny.yaml": TINY_SUITE, "pytest.ini": "[pytest]\nmarkers = gate\n"})
    if named == "conftest":
        write(pytester.path, {"conftest.py": "pytest_plugins = ['circuit_assertions.plugin']\n"})
    plugin = ["-p", "circuit_assertions.plugin"] if named == "-p" else []
    (pytester.path / "inside").symlink_to(tiny_folder)
    finished = subprocess_run(*plugin, *model, "--collect-only", "-q", "-m", "gate", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "suites/tiny.yaml::breaks" in finished.stdout, finished.stdout + finished.stderr


def test_a_disabled_plugin_has_no_options(pytester: pytest.Pytester) -> None:
    write(pytester.path, {"test_own.py": "def test_own():\n    pass\n"})
    pytester.runpytest_inprocess("-p", "no:circuit_assertions").assert_outcomes(passed=1)
    result = pytester.runpytest_inprocess("-p", "no:circuit_assertions", "--circuit-model=x")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    "spelled", [["--model", "small"], pytest.param(["--model=small"], marks=pytest.mark.complete)], ids=" ".join
)
@pytest.mark.complete
def test_workers_read_the_same_options(pytester: pytest.Pytester, spelled: list[str]) -> None:
    write(
        pytester.path,
        {"conftest.py": declaration("--model", {}), "test_own.py": reads("--model", "small")},
    )
    finished = subprocess_run("-n", "2", "-p", "no:randomly", *spelled)
    assert "1 passed" in finished.stdout, finished.stdout + finished.stderr


@pytest.mark.complete
def test_workers_audit_by_the_short_option(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    write(pytester.path, {"suites/tiny.yaml": TINY_SUITE, "pytest.ini": "[pytest]\nmarkers = gate\n"})
    finished = subprocess_run("-n", "1", "--model", str(tiny_folder), "-k", "holds")
    assert "1 passed" in finished.stdout, finished.stdout + finished.stderr


@pytest.mark.family(main="outside", turns=("attached",))
@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("outside", [True, False])
def test_a_conftest_in_a_checkpoint_is_never_run(
    pytester: pytest.Pytester, tiny_folder: Path, attached: bool, outside: bool
) -> None:
    project = pytester.mkdir("project")
    model = shutil.copytree(tiny_folder, (pytester.path if outside else project) / "evil")
    bad = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n" + declaration("--model", {})
    write(model, {"conftest.py": bad, "test_x.py": bad, "tests/conftest.py": bad})
    write(project, {"suites/tiny.yaml": TINY_SUITE, "pytest.ini": "[pytest]\nmarkers = gate\n"})
    os.chdir(project)
    path = os.path.relpath(model)
    finished = subprocess_run(*given("--model", path, attached), "--collect-only", "-q", "-m", "gate")
    assert "suites/tiny.yaml::breaks" in finished.stdout, finished.stdout + finished.stderr
    assert not list(model.rglob("ran"))


# -- configuration keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", RENAMED)
def test_a_renamed_key_is_an_error_where_a_suite_is_run_and_nowhere_else(
    pytester: pytest.Pytester, tiny_folder: Path, key: str
) -> None:
    write(
        pytester.path,
        {
            "suites/tiny.yaml": TINY_SUITE,
            "pytest.ini": f"[pytest]\nmarkers = gate\n{key} = x\n",
            "test_own.py": "def test_own():\n    pass\n",
        },
    )
    run = pytester.runpytest_inprocess(f"--model={tiny_folder}", "--collect-only")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    run.stderr.fnmatch_lines([f"ERROR: '{key}' in *pytest.ini *{RENAMED[key]}*"])
    pytester.runpytest_inprocess("test_own.py", "-W", "ignore").assert_outcomes(passed=1)
    pytester.runpytest_inprocess("test_own.py", f"--model={tiny_folder}", "-W", "ignore").assert_outcomes(passed=1)


def test_a_renamed_key_is_an_error_where_a_suite_is_named_and_there_is_no_model(pytester: pytest.Pytester) -> None:
    files = {"a.yaml": TINY_SUITE, "b.yaml": "tool: x\n", "test_own.py": "def test_own():\n    pass\n"}
    write(pytester.path, files | {"pytest.ini": "[pytest]\nmodel = x\n"})
    run = pytester.runpytest_inprocess("a.yaml::holds")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    run.stderr.fnmatch_lines(["ERROR: 'model' in *pytest.ini*circuit_model*"])
    for args in (["b.yaml", "test_own.py"], ["test_own.py"]):
        assert "circuit_model" not in pytester.runpytest_inprocess(*args).stderr.str()


@pytest.mark.complete
def test_a_renamed_key_is_an_error_with_workers_too(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    write(pytester.path, {"suites/tiny.yaml": TINY_SUITE, "pytest.ini": "[pytest]\nmodel = x\nmarkers = gate\n"})
    finished = subprocess_run("-n", "1", f"--model={tiny_folder}", "-W", "ignore")
    assert finished.returncode == pytest.ExitCode.USAGE_ERROR, finished.stdout + finished.stderr
    assert "'model' in" in finished.stderr + finished.stdout
    assert "circuit_model" in finished.stderr + finished.stdout


@pytest.mark.family(main="key", whole=("model",), turns=("strict",))
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("key", RENAMED)
def test_a_key_of_another_plugin_is_theirs(
    pytester: pytest.Pytester, tiny_folder: Path, key: str, strict: bool
) -> None:
    theirs = (
        f"def pytest_addoption(parser):\n    parser.addini({key!r}, 'of theirs', type='args', default=['medium'])\n"
    )
    reading = f"def test_own(pytestconfig):\n    assert pytestconfig.getini({key!r}) == ['a', 'b']\n"
    ini = f"[pytest]\nmarkers = gate\n{key} = a b\n" + "addopts = --strict-config\n" * strict
    write(
        pytester.path,
        {"suites/tiny.yaml": TINY_SUITE, "conftest.py": theirs, "test_own.py": reading, "pytest.ini": ini},
    )
    pytester.runpytest_inprocess("test_own.py").assert_outcomes(passed=1)
    both = pytester.runpytest_inprocess(f"--model={tiny_folder}", "test_own.py", "suites", "-k", "test_own")
    both.assert_outcomes(passed=1, deselected=5)


@pytest.mark.parametrize("key", RENAMED.values())
def test_our_keys_are_known_where_configuration_is_strict(pytester: pytest.Pytester, key: str) -> None:
    value = {"circuit_device": "cpu", "circuit_dtype": "float32"}.get(key, "no-such-folder/x/y")
    write(
        pytester.path,
        {
            "pytest.ini": f"[pytest]\naddopts = --strict-config -p no:cacheprovider\n{key} = {value}\n",
            "test_own.py": "def test_own():\n    pass\n",
        },
    )
    result = pytester.runpytest_inprocess("test_own.py")
    if key == "circuit_model":
        result.stderr.fnmatch_lines(["ERROR: no such path: no-such-folder/x/y*"])
    else:
        result.assert_outcomes(passed=1)


# -- fixtures ------------------------------------------------------------------------------------------------------

OWN_FIXTURE = """\
import pytest

@pytest.fixture({arguments})
def {function}():
    return "own"
"""


@pytest.mark.family(main="order", whole=("conftest of the root",), turns=("arguments", "function"))
@pytest.mark.parametrize(
    ("arguments", "function"),
    [("", "audit"), ("scope='session'", "audit"), ("name='audit'", "whatever"), ("params=[1, 2]", "audit")],
)
@pytest.mark.parametrize("order", ORDERS)
def test_a_fixture_audit_of_somebody_else_is_theirs(
    pytester: pytest.Pytester,
    other: Callable[[str, str], list[str]],
    tiny_folder: Path,
    order: str,
    arguments: str,
    function: str,
) -> None:
    more = other(order, OWN_FIXTURE.format(arguments=arguments, function=function))
    write(pytester.path, {"sub/test_own.py": "def test_own(audit):\n    assert audit == 'own'\n"})
    count = 2 if "params" in arguments else 1
    pytester.runpytest_inprocess(*more, "sub").assert_outcomes(passed=count)
    pytester.runpytest_inprocess(*more, "sub", f"--circuit-model={tiny_folder}").assert_outcomes(passed=count)


# -- the translation itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", WITH_A_VALUE)
def test_only_whole_names_before_a_double_dash_are_translated(option: str) -> None:
    full = PLAIN[option]
    args = ["-k", "x", option, "a", f"{option}=b=c", f"{option}x", "tests", "--", option, f"{option}=d"]
    expected = ["-k", "x", full, "a", f"{full}=b=c", f"{option}x", "tests", "--", option, f"{option}=d"]
    assert translated(args, [option]) == expected
    assert translated(args, []) == args
