"""`circuit-assertions sweep`: its options, exit codes, files, and what it does when processes are killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from auditing import HEALTHY
from commands import Said
from said import says
from sweep_cases import POISONED, SUITE, InThisProcess, run_of

from benchmarks.sweeping import timeless
from circuit_assertions.cli import run_sweep
from circuit_assertions.results import SweepResult

BASELINE = ("--baseline", HEALTHY, "--device", "cpu")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.yaml").write_text(SUITE)
    run_of(tmp_path / "runs" / "a", HEALTHY, POISONED)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_sweep, "_workers", lambda given, units: InThisProcess())


@pytest.mark.usefixtures("in_this_process")
def test_a_sweep_writes_a_page_a_comparison_and_a_file_for_each_checkpoint(tmp_path: Path) -> None:
    said = Said.by("sweep", "--models", "runs/*/checkpoint-*", "--suites", "short.yaml", *BASELINE, "-o", "out")
    assert said.code == 1
    assert says(said.err, "[1/2] runs/a/checkpoint-10", "[2/2] runs/a/checkpoint-20")
    assert says(said.out, "worst first", "first broken", "out/sweep.html")
    result = SweepResult.model_validate_json((tmp_path / "out" / "sweep.json").read_text())
    assert len(list((tmp_path / "out" / "records").iterdir())) == 3
    assert (tmp_path / "out" / "sweep.html").read_text().startswith("<!doctype html>")
    again = Said.by(
        "sweep", "--models", "runs/*/checkpoint-*", "--suites", "short.yaml", *BASELINE, "-o", "out", "--json"
    )
    assert SweepResult.model_validate_json(again.out).checkpoints == result.checkpoints
    assert json.loads(again.out)["reused"] == 2


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "--models"),
        (("--models", "a", "--watch", "b"), "--watch"),
        (("--watch", "runs", "--bisect"), "--bisect"),
        (("--models", "runs/a", "--corrupted", "x"), "--baseline"),
        (("--models", "runs/a", "--on-fail"), "--on-fail"),
        (("--models", "runs/*/nothing-*"), "no folder matches"),
        (("--models", "runs/a", "--suites", "runs"), "no suite"),
        (("--models", "runs/a", "--suites", "shrt.yaml"), "shrt.yaml"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_wrong_command_is_one_sentence(arguments: tuple[str, ...], expected: str) -> None:
    said = Said.by("sweep", *arguments)
    assert said.code == 2
    assert says(said.err, expected)
    assert said.err.count("\n") == 1


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "circuit_assertions", "sweep", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def children(process: int) -> list[int]:
    told = Path(f"/proc/{process}/task/{process}/children")
    return [int(number) for number in told.read_text().split()] if told.exists() else []


def workers_of(process: int) -> list[int]:
    """Its worker processes, without the one that only watches over what processes share."""
    return [
        child for child in children(process) if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.mark.complete
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds worker processes in /proc")
def test_killed_workers_and_a_killed_sweep_lose_nothing_that_was_finished(tmp_path: Path) -> None:
    run_of(tmp_path / "runs" / "b", *[HEALTHY, POISONED] * 4)
    arguments = ["--models", "runs/*/checkpoint-*", "--suites", "short.yaml", *map(str, BASELINE), "--jobs", "2"]
    kept = tmp_path / "out" / "records"
    rng, killed = random.Random(0), 0
    with started(*arguments, "-o", "out") as process:
        while process.poll() is None and killed < 3:
            before = len(list(kept.glob("*.json"))) if kept.is_dir() else 0
            if before > killed and (workers := workers_of(process.pid)):
                os.kill(rng.choice(workers), signal.SIGKILL)
                killed += 1
            time.sleep(0.05)
        out, err = process.communicate(timeout=600)
        assert process.returncode == 1, err
    assert killed
    result = SweepResult.model_validate_json((tmp_path / "out" / "sweep.json").read_text())
    assert len(result.checkpoints) == 10
    assert not any(one.problem for one in result.checkpoints)

    with started(*arguments, "-o", "other") as process:
        while len(list((tmp_path / "other" / "records").glob("*.json"))) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        orphans = workers_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        finished = {file.name: file.read_text() for file in (tmp_path / "other" / "records").glob("*.json")}
        own = [name for name in finished if "-baseline." not in name]
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{orphan}").exists() for orphan in orphans):
        assert time.monotonic() < deadline, "workers stay behind"
        time.sleep(0.1)
    with started(*arguments, "-o", "other", "--json") as process:
        out, err = process.communicate(timeout=600)
    assert json.loads(out)["reused"] == len(own)
    texts = {file.name: file.read_text() for file in (tmp_path / "other" / "records").glob("*.json")}
    assert timeless(tmp_path / "other" / "records") == timeless(kept)
    assert finished.items() <= texts.items()


def busy_on_ray(process: int) -> list[int]:
    """The processes below this one in which Ray judges a checkpoint now."""
    below, ahead = list[int](), children(process)
    while ahead:
        child = ahead.pop()
        below.append(child)
        ahead += children(child)
    with contextlib.suppress(OSError):  # one that ends meanwhile
        return [one for one in below if Path(f"/proc/{one}/cmdline").read_bytes().startswith(b"ray::audit_unit")]
    return []


@pytest.mark.complete
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds worker processes in /proc")
def test_ray_ends_complete_though_workers_are_killed_at_ten_points(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    run_of(tmp_path / "runs" / "b", *[HEALTHY, POISONED] * 6)
    arguments = ["--models", "runs/b/checkpoint-*", "--suites", "short.yaml", *map(str, BASELINE), "--jobs", "2"]
    rng, killed, seen = random.Random(0), 0, 0
    folder = tmp_path / "on-ray" / "records"
    with started(*arguments, "-o", "on-ray", "--engine", "ray") as process:
        while process.poll() is None and killed < 10:
            time.sleep(rng.uniform(0.0, 0.3))
            there = len(list(folder.glob("*.json"))) if folder.is_dir() else 0
            # One for each record that was written, so that no checkpoint is killed more often than it is tried again.
            if there > seen and (busy := busy_on_ray(process.pid)):
                os.kill(rng.choice(busy), signal.SIGKILL)
                killed, seen = killed + 1, there
        _, err = process.communicate(timeout=600)
    assert process.returncode == 1, err
    assert killed == 10
    with started(*arguments[:-1], "1", "-o", "alone") as process:
        process.communicate(timeout=600)
    assert timeless(folder) == timeless(tmp_path / "alone" / "records")
    assert len(timeless(folder)) == 13


@pytest.mark.complete
def test_ray_gives_the_results_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    arguments = ["--models", "runs/*/checkpoint-*", "--suites", "short.yaml", *map(str, BASELINE), "--jobs", "2"]
    with started(*arguments, "-o", "on-ray", "--engine", "ray") as process:
        _, err = process.communicate(timeout=600)
    assert process.returncode == 1, err
    with started(*arguments[:-1], "1", "-o", "alone") as process:
        process.communicate(timeout=600)
    alone = timeless(tmp_path / "alone" / "records")
    assert timeless(tmp_path / "on-ray" / "records") == alone
    assert len(alone) == 3
