"""`pytest --model path/` in every spelling, and what it runs."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from suite_texts import TINY_SUITE, circuit_text, write

from circuit_assertions.plugin.respawn import attach_values
from circuit_assertions.verdict_words import Outcome

CONFIGURATION = "[pytest]\nmarkers = gate: must hold\naddopts = --strict-markers\n"
OWN_TEST = {"tests/test_own.py": "def test_own():\n    raise RuntimeError('the own tests were run')\n"}


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """A project in a folder of its own, so that there is an outside; tests start in it."""
    folder = pytester.mkdir("project")
    write(folder, {"suites/tiny.yaml": TINY_SUITE, "pytest.ini": CONFIGURATION} | OWN_TEST)
    os.chdir(folder)
    return folder


def collected(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if "::" in line and " " not in line]


def run(*args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """`pytest` as a user starts it."""
    command = [str(Path(sys.executable).parent / "pytest"), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.parametrize("spelled", ["inside", "inside/", "./inside", "absolute", "absolute/"])
@pytest.mark.parametrize("attached", [True, False])
def test_a_path_inside_is_found_however_it_is_spelled(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path, spelled: str, attached: bool
) -> None:
    shutil.copytree(tiny_folder, project / "inside")
    path = spelled.replace("absolute", str(project / "inside"))
    given = [f"--model={path}"] if attached else ["--model", path]
    result = pytester.runpytest_inprocess(*given, "--collect-only", "-q", "-m", "gate")
    assert (result.ret, collected(result)) == (0, ["suites/tiny.yaml::breaks"])


@pytest.mark.usefixtures("project")
def test_a_path_outside_is_found_where_it_is_attached(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    for path in (tiny_folder, os.path.relpath(tiny_folder)):
        result = pytester.runpytest_inprocess(f"--model={path}", "--collect-only", "-q", "-m", "gate")
        assert collected(result) == ["suites/tiny.yaml::breaks"]


@pytest.mark.usefixtures("project")
@pytest.mark.complete
def test_a_separate_path_outside_keeps_the_root_its_configuration_and_the_exit_code(tiny_folder: Path) -> None:
    """The one run that opens a model the way users do: `pytest --model PATH`, in a process of its own."""
    finished = run("--model", str(tiny_folder), "--baseline", os.path.relpath(tiny_folder), "-m", "gate")
    assert finished.returncode == pytest.ExitCode.TESTS_FAILED
    assert f"rootdir: {Path.cwd()}\nconfigfile: pytest.ini\n" in finished.stdout
    assert "BROKEN: " in finished.stdout
    assert finished.stdout.count("test session starts") == 1
    assert finished.stderr == ""


@pytest.mark.complete
def test_the_nearest_configuration_counts_even_where_a_folder_above_has_one(project: Path, tiny_folder: Path) -> None:
    write(project.parent, {"pytest.ini": "[pytest]\n"})
    shutil.copytree(tiny_folder, project.parent / "models" / "tiny")
    finished = run("--model", "../models/tiny", "--collect-only", "-q", "-m", "gate")
    assert (finished.returncode, finished.stdout.split()[0]) == (0, "suites/tiny.yaml::breaks")


@pytest.mark.usefixtures("project")
def test_inside_a_process_of_somebody_else_the_working_spelling_is_asked_for(
    pytester: pytest.Pytester, tiny_folder: Path
) -> None:
    result = pytester.runpytest_inprocess("--model", str(tiny_folder), "--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *lost its root: write --model={tiny_folder}"])


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_an_interrupt_ends_the_run_that_was_started_anew(project: Path, tiny_folder: Path) -> None:
    write(project, {"conftest.py": "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(30)\n"})
    command = [str(Path(sys.executable).parent / "pytest"), "--model", str(tiny_folder)]
    # A shell starts its background jobs deaf to SIGINT, and so would be whatever runs these tests in one.
    hearing = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=hearing)
    give_up = time.monotonic() + 30
    while not (project / "started").exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)  # to this process alone, as `kill -INT` does: no other may be left behind
    output, _ = running.communicate(timeout=20)
    assert running.returncode == pytest.ExitCode.INTERRUPTED or "KeyboardInterrupt" in output
    assert "respawn" not in output


def test_values_are_attached_and_nothing_else_is_touched() -> None:
    args = ["-x", "--model", "a", "--baseline=b", "--circuit-suites", "c", "-k", "d", "--model", "-v", "--tokenizer"]
    attached = ["-x", "--model=a", "--baseline=b", "--circuit-suites=c", "-k", "d", "--model", "-v", "--tokenizer"]
    assert attach_values(args) == attached == attach_values(attached)


def test_the_values_of_all_options_that_take_a_path_are_attached(pytester: pytest.Pytester) -> None:
    ours = pytester.runpytest_inprocess("--help").stdout.str().partition("circuit assertions:")[2].partition("\n\n")[0]
    options = re.findall(r"(--[\w-]+)=PATH", ours)
    assert {"--model", "--corrupted"} < set(options)
    for option in options:
        assert attach_values([option, "a"]) == [f"{option}=a"]


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize("started", [".", "deeper"])
@pytest.mark.usefixtures("opened_once")
def test_a_folder_that_discover_made_is_no_folder_of_suites(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path, started: str
) -> None:
    shutil.rmtree(project / "suites")
    shape = {"architecture": "GPT2LMHeadModel", "layers": 3, "heads": 4, "d_model": 32}
    circuit = circuit_text(shape, {"name-mover": [(2, 0)]})
    write(project, {"suites/circuits/tiny.ioi.yaml": circuit, "suites/.store": ""})
    (project / "deeper").mkdir()
    os.chdir(project / started)
    asked = [f"--model={tiny_folder}", "--no-diagnosis", "-rs", "-k", "name-movers-read or negative"]
    output = pytester.runpytest_inprocess(*asked).stdout.str()
    assert "name-movers-read-the-indirect-object" in output  # of the packaged suite, bound by the folder's own file
    assert re.search(r"circuit tiny\.ioi\.yaml \([^)]*lineage[^)]*assumed\)", " ".join(output.split()))


def test_suites_of_the_root_are_run_and_nothing_else(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path
) -> None:
    write(project, {"suites/other.yaml": "tool: some\n", "suites/circuits/x.yaml": "not: looked at\n", "sub/x": ""})
    shutil.rmtree(project / "suites" / "circuits")
    for start in (project, project / "sub"):
        os.chdir(start)
        result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "--collect-only", "-q")
        assert result.ret == 0
        assert {line.partition("::")[0] for line in collected(result)} == {"suites/tiny.yaml"}


def test_packaged_suites_are_run_where_there_are_none(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path
) -> None:
    shutil.rmtree(project / "suites")
    # In a checkout the packaged suites lie beside the conftest.py of this project, which is none of the user's.
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "--collect-only", "-q", "--noconftest")
    found = {line.partition("::")[0] for line in collected(result)}
    assert {"packaged:ioi.yaml", "packaged:induction.yaml"} <= found


def test_other_suites_are_chosen_by_option_key_and_path(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path
) -> None:
    write(project, {"more/a.yaml": TINY_SUITE, "b.yaml": TINY_SUITE, "sub/x": ""})
    model = f"--model={tiny_folder}"

    def files(*args: str) -> set[str]:
        result = pytester.runpytest_inprocess(model, "--collect-only", "-q", *args)
        return {line.partition("::")[0] for line in collected(result)}

    assert files("--circuit-suites=more", "--circuit-suites=b.yaml") == {"more/a.yaml", "b.yaml"}
    assert files("b.yaml") == {"b.yaml"}
    os.chdir(project / "sub")
    assert files("--circuit-suites=../more") == {"more/a.yaml"}
    write(project, {"pytest.ini": f"{CONFIGURATION}circuit_suites = more\n"})
    assert files() == {"more/a.yaml"}


def test_a_model_of_the_configuration_is_meant_from_the_root(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path
) -> None:
    shutil.copytree(tiny_folder, project / "inside")
    write(project, {"pytest.ini": f"{CONFIGURATION}circuit_model = inside\n", "sub/x": ""})
    os.chdir(project / "sub")
    result = pytester.runpytest_inprocess("--collect-only", "-q", "-m", "gate")
    assert (result.ret, collected(result)) == (0, ["suites/tiny.yaml::breaks"])


def test_a_file_that_is_given_and_is_no_suite_is_an_error(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path
) -> None:
    write(project, {"x.yaml": "tool: some\n"})
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "x.yaml")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["x.yaml:1:1: unknown key 'tool'*", "ERROR x.yaml"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model=../nope"], "ERROR: *../nope*"),
        (["--model="], "ERROR: *model*empty string*"),
        (["--model=empty"], "ERROR: empty *empty folder*"),
        (["--model=config"], "ERROR: config *no weights*"),
        (["--model=TINY", "--baseline=../nope"], "ERROR: *../nope*"),
        (["--model=TINY", "--model-dtype=int8"], "ERROR: --model-dtype *'int8'*float32*"),
        (["--model=TINY", "--model-device=cuda:77"], "ERROR: *cuda:77 *"),
        (["--model=TINY", "--model-device=toaster"], "ERROR: *'toaster'*device*"),
        (["--model=TINY", "-o", "circuit_dtype=int8"], "ERROR: circuit_dtype *'int8'*float32*"),
        (["--model=TINY", "-o", "circuit_unresolved=maybe"], "ERROR: circuit_unresolved *'maybe' *"),
    ],
)
@pytest.mark.usefixtures("opened_once")
def test_a_mistake_in_the_command_is_one_sentence_and_exit_code_4(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path, args: list[str], message: str
) -> None:
    write(project, {"config/config.json": "{}"})
    (project / "empty").mkdir()
    result = pytester.runpytest_inprocess(*[arg.replace("TINY", str(tiny_folder)) for arg in args])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (pytester.path / "said").write_text(f"{result.stdout.str()}{result.stderr.str()}")
    lines = pytest.LineMatcher((pytester.path / "said").read_text().splitlines())
    lines.fnmatch_lines([message])
    lines.no_fnmatch_line("*Traceback*")


def damaged(tiny_folder: Path, folder: Path, how: str) -> Path:
    shutil.copytree(tiny_folder, folder)
    weights = folder / "model.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "NaN":
        raw = bytearray(weights.read_bytes())
        raw[-4:] = b"\xff\xff\xff\x7f"  # little-endian float32 NaN
        weights.write_bytes(raw)
    else:
        (folder / "config.json").write_text(json.dumps({"model_type": "no-such-thing"}))
    return folder


@pytest.mark.parametrize("how", ["truncated", "NaN", "unknown"])
@pytest.mark.usefixtures("opened_once", "project")
def test_a_checkpoint_that_cannot_be_read_is_an_error_and_no_failure(
    pytester: pytest.Pytester, tiny_folder: Path, tmp_path: Path, how: str
) -> None:
    model = f"--model={damaged(tiny_folder, tmp_path / 'broken', how)}"
    listed = pytester.runpytest_inprocess(model, "--collect-only", "-q")
    assert (listed.ret, len(collected(listed))) == (0, 5)
    result = pytester.runpytest_inprocess(model, "-k", "not against")
    result.assert_outcomes(errors=4, deselected=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.stdout.str().count("(as above)") >= 3
    result.stdout.fnmatch_lines([f"verdicts  4 {Outcome.ERROR.said}"])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.usefixtures("opened_once", "project")
def test_a_hub_id_that_cannot_be_had_is_one_clear_sentence(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--model=no-such-org/no-such-model")
    result.assert_outcomes(errors=5)
    result.stdout.fnmatch_lines(["*no-such-org/no-such-model *local folder*Hub*"])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.usefixtures("opened_once", "project")
def test_a_hub_id_is_fetched_and_audited(
    pytester: pytest.Pytester, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def snapshot_download(name: str, *, revision: str | None = None, **_: object) -> str:
        asked.append((name, revision))
        return str(tiny_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    pytester.runpytest_inprocess("--model", "org/name@v2", "-k", "holds").assert_outcomes(passed=1, deselected=4)
    assert set(asked) == {("org/name", "v2")}
