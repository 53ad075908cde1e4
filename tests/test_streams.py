"""What a verb says where its output is cut off, closed, full or ASCII, and where it is interrupted."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from auditing import HEALTHY
from terminal_screen import Terminal

from circuit_assertions.cli import main
from circuit_assertions.report import Progress

COMMITTED = HEALTHY.parent
PROGRAM = [sys.executable, "-c", "import sys; from circuit_assertions.cli import main; sys.exit(main())"]
INTERRUPTED = "circuit-assertions: interrupted\n"
FULL = Path("/dev/full")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def redirected(to: str, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The program as a shell starts it, its output redirected."""
    assigned = [f"{name}={value}" for name, value in variables.items()]
    command = ["env", *assigned, "sh", "-c", f'exec "$0" "$@" {to}', *PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def cut_off(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The program with a reader that has gone before it says a word."""
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    assert reader.stdin is not None
    command = [*PROGRAM, *map(str, arguments)]
    with reader.stdin as closed:
        return subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)


# -- a reader that has gone ---------------------------------------------------------------------------------------


def test_the_exit_code_of_what_was_found_survives_a_closed_pipe(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("suite: wrong\n")
    for arguments, code in ((["validate", "wrong.yaml"], 1), (["measures"], 0)):
        done = cut_off(*arguments)
        assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.complete
def test_a_corrupted_model_is_no_success_because_nobody_reads_on() -> None:
    poisoned = COMMITTED / "poisoned-heads"
    done = cut_off("diagnose", "--model", poisoned, "--baseline", HEALTHY, "--prompts", "20", "--device", "cpu")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_an_audit_that_is_cut_off_before_its_verdicts_is_no_success() -> None:
    done = cut_off("audit", HEALTHY, "--no-diagnosis")
    assert (done.returncode, done.stderr) == (141, "")


# -- nowhere to print ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize(
    "arguments", [["measures"], pytest.param(["audit", HEALTHY, "--no-diagnosis"], marks=pytest.mark.complete)]
)
def test_a_full_disk_is_said_in_one_sentence(arguments: list[str | Path]) -> None:
    done = redirected(f"> {FULL}", *arguments)
    assert done.returncode == 2
    assert done.stderr.endswith(f": {os.strerror(errno.ENOSPC)}\n")
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_output_is_said_before_any_work() -> None:
    done = redirected(">&-", "diagnose", "--model", "nowhere", "--baseline", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("circuit-assertions: ")
    assert "standard output" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_meant_for_a_closed_standard_error_is_not_put_among_what_was_found() -> None:
    done = redirected("2>&-", "validate", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")


def test_what_an_ascii_terminal_has_no_letter_for_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "süß").mkdir()
    (tmp_path / "süß" / "wrong.yaml").write_text("suite: wrong\n")
    done = redirected("", "validate", "süß", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(r"s\xfc\xdf/wrong.yaml:1:1: ")


# -- Ctrl-C -------------------------------------------------------------------------------------------------------


def _interrupt(*anything: object, **more: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "verb", ["diagnose", "trajectory", "discover", "edges", "show-task", "graft", "mutate", "calibrate"]
)
@pytest.mark.usefixtures("opened_anew")
def test_ctrl_c_is_one_line_and_its_own_exit_code(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("circuit_assertions.checkpoints.opening.open_checkpoint", _interrupt)
    monkeypatch.setattr("circuit_assertions.checkpoints.opening.open_tokenizer", _interrupt)
    monkeypatch.setattr("circuit_assertions.checkpoints.grafting.graft", _interrupt)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint-1").symlink_to(HEALTHY)
    model = "run" if verb == "trajectory" else str(HEALTHY)
    more = {
        "diagnose": ["--baseline", str(HEALTHY)],
        "trajectory": ["--baseline", str(HEALTHY)],
        "show-task": [str(HEALTHY.parents[2] / "suites" / "ioi.yaml")],
        "graft": ["--from", str(HEALTHY), "--components", "L0H0", "-o", "out"],
        "mutate": [str(HEALTHY.parents[2] / "suites" / "ioi.yaml")],
    }
    assert main([verb, *more.get(verb, []), "--model", model]) == 130
    assert capsys.readouterr() == ("", INTERRUPTED)


@pytest.mark.parametrize("verb", ["diagnose", "discover", "edges"])
def test_no_line_of_progress_is_left_behind(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    terminal = Terminal()
    tell: Callable[[Progress, str, int, int], None] = Progress.__call__

    def tell_and_interrupt(progress: Progress, what: str, done: int, total: int) -> None:
        tell(progress, what, done, total)
        if 0 < done < total:
            seen.append(terminal.screen)
            raise KeyboardInterrupt

    monkeypatch.setattr("circuit_assertions.report.progress._PATIENCE", 0.0)
    monkeypatch.setattr(Progress, "__call__", tell_and_interrupt)
    monkeypatch.setenv("CIRCUIT_ASSERTIONS_MEMORY", "20MB")  # in more than one batch
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    baseline = ["--baseline", str(HEALTHY)] if verb == "diagnose" else []
    assert main([verb, "--model", str(HEALTHY), *baseline, "--device", "cpu"]) == 130
    assert [lines[-1][: len("reading ioi")] for lines in seen] == ["reading ioi"]
    assert [line for line in terminal.screen if line] == [INTERRUPTED.strip()]
