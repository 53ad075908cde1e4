"""Sweeps: what is found, what is judged, what is kept, and what happens when something is lost."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path
from typing import Any

import pytest
from auditing import HEALTHY
from commands import Said
from said import says
from sweep_cases import (
    POISONED,
    SUITE,
    SUITE_OF_TWO,
    InThisProcess,
    broken_checkpoint,
    run_of,
    setting_in,
    sweep_in,
)

from benchmarks.sweeping import timeless
from circuit_assertions.files import NotWrittenError, write_whole
from circuit_assertions.records import store
from circuit_assertions.report.swept import swept_lines
from circuit_assertions.report.swept_page import swept_page
from circuit_assertions.results import AuditResult, SweepResult
from circuit_assertions.sweeps import local, watching
from circuit_assertions.sweeps.asked import Setting, Unit, found_checkpoints
from circuit_assertions.sweeps.auditing import Done, Shared
from circuit_assertions.sweeps.errors import SweepError
from circuit_assertions.sweeps.local import ATTEMPTS, LocalWorkers
from circuit_assertions.sweeps.on_ray import RayWorkers
from circuit_assertions.verdict_words import Outcome


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_steps_are_found_in_the_order_of_their_numbers_and_each_once(tmp_path: Path) -> None:
    run_of(tmp_path / "runs" / "a", *[HEALTHY] * 11)
    names = [one.name for one in found_checkpoints(["runs/*/checkpoint-*", "runs/a/checkpoint-20"])]
    assert names == [f"runs/a/checkpoint-{10 * number}" for number in range(1, 12)]
    assert [one.name for one in found_checkpoints([f"{tmp_path}/runs/*/checkpoint-2*"])] == [
        f"{tmp_path}/runs/a/checkpoint-20"
    ]
    assert len(found_checkpoints(["runs/a"])) == 11  # a training run stands for its steps


def test_what_is_no_checkpoint_is_found_with_its_reason_and_a_pattern_without_any_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a" / "checkpoint-1").mkdir(parents=True)
    (one,) = found_checkpoints(["runs/*/checkpoint-*"])
    assert one.checkpoint is None
    assert says(one.problem, "empty folder")
    with pytest.raises(SweepError) as raised:
        found_checkpoints(["run/*/checkpoint-*"])
    assert says(raised.value, "run/*/checkpoint-*", "--models")


def test_a_sweep_judges_compares_and_names_what_broke_first(tmp_path: Path) -> None:
    run_of(tmp_path / "runs" / "a", HEALTHY, HEALTHY, POISONED)
    broken_checkpoint(tmp_path / "runs" / "b" / "checkpoint-10")
    sweep = sweep_in(tmp_path, setting_in(tmp_path, SUITE, SUITE_OF_TWO))
    told: list[str] = []
    sweep.tell = lambda one: told.append(one.checkpoint)
    sweep.run()
    result = sweep.result()
    assert result == SweepResult.model_validate_json(result.to_json())
    assert sorted(told) == [one.checkpoint for one in result.checkpoints]
    first, second, poisoned, unread = result.checkpoints
    assert [first.passed, second.passed, poisoned.passed] == [True, True, False]
    assert {one.outcome for one in first.assertions.values()} == {Outcome.HELD}
    assert len(first.assertions) == 5
    assert says(unread.problem, "truncated")
    assert [one.checkpoint for one in result.worst_first][:2] == [unread.checkpoint, poisoned.checkpoint]
    broke = {(one.held_before, one.broke) for one in result.first_broken}
    assert broke == {("runs/a/checkpoint-20", "runs/a/checkpoint-30")}
    assert all(len(one.files) == 2 and Path(one.files[0]).is_file() for one in (first, second, poisoned))

    lines = [text for text, _ in swept_lines(result)]
    assert any(says(line, "runs/b/checkpoint-10", "read") for line in lines)
    page = swept_page(result)
    assert all(one.checkpoint in page for one in result.checkpoints)
    assert page.count("<svg") == 5  # a trend for each assertion of the run
    assert "http" not in page
    assert "ray" not in sys.modules


def test_names_and_reasons_are_escaped_in_the_page(tmp_path: Path) -> None:
    broken_checkpoint(tmp_path / "runs" / "<b>" / "checkpoint-10")
    sweep = sweep_in(tmp_path, setting_in(tmp_path))
    sweep.run()
    page = swept_page(sweep.result())
    assert "<b>" not in page.split("<h2>")[1].split("</table>")[0]
    assert "&lt;b&gt;" in page


def test_what_has_a_result_is_not_done_again_and_what_changed_is(tmp_path: Path) -> None:
    run_of(tmp_path / "runs" / "a", HEALTHY, POISONED)
    setting = setting_in(tmp_path)
    first = sweep_in(tmp_path, setting)
    first.run()
    workers = InThisProcess()
    again = sweep_in(tmp_path, setting, workers=workers)
    again.run()
    assert workers.did == []
    assert again.reused == 2
    assert again.result().checkpoints == first.result().checkpoints

    (kept,) = (tmp_path / "kept").glob("*checkpoint-10*")
    kept.write_text(kept.read_text()[:1000])  # as if written by something that stopped
    sweep_in(tmp_path, setting, workers=workers).run()
    assert [str(unit.checkpoint) for unit in workers.did] == ["runs/a/checkpoint-10"]
    changed = setting_in(tmp_path, SUITE.replace("50%", "60%"))
    sweep_in(tmp_path, changed, workers=workers).run()
    assert len(workers.did) == 3


def test_each_checkpoint_has_a_record_that_can_be_compared(tmp_path: Path) -> None:
    run_of(tmp_path / "runs" / "a", HEALTHY, POISONED)
    sweep_in(tmp_path, setting_in(tmp_path)).run()
    records = ("--records", "kept")
    listed = json.loads(Said.by("list", *records, "--json").out)
    assert {one["label"]: one["gate"]["passed"] for one in listed} == {
        "baseline.suite-0": True,
        "runs-a-checkpoint-10.suite-0": True,
        "runs-a-checkpoint-20.suite-0": False,
    }
    assert says(Said.by("show", "runs-a-checkpoint-20.suite-0", *records).out, "runs/a/checkpoint-20", "keeps-most")
    same = Said.by("compare", "baseline.suite-0", "runs-a-checkpoint-10.suite-0", *records, "--json")
    assert same.code == 0, same.err
    worse = Said.by("compare", "runs-a-checkpoint-10.suite-0", "runs-a-checkpoint-20.suite-0", *records, "--json")
    assert worse.code == 1, worse.err
    changed = {one["id"]: one for one in json.loads(worse.out)["assertions"]}
    assert len(changed) == 4
    for entry in store.history(tmp_path / "kept"):
        assert entry.record.name == entry.name
        assert None not in entry.record.seconds_of
        reads = dict(zip((one.id for one in entry.audit.assertions), entry.record.reads, strict=True))
        reading = entry.record.readings[reads["movers-look"] or 0]
        assert (reading.measure, reading.prompts) == ("attention", 32)


def test_the_baselines_record_of_a_sweep_is_a_baseline_for_pytest(
    tmp_path: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(tmp_path / "runs" / "a", POISONED)
    sweep_in(tmp_path, setting_in(tmp_path)).run()
    (swept,) = (tmp_path / "kept").glob("*checkpoint-10*")
    (base,) = (tmp_path / "kept").glob("*-baseline.*")
    monkeypatch.chdir(pytester.path)
    pytester.makeini("[pytest]")
    (pytester.path / "suite.yaml").write_text(SUITE)
    pytester.runpytest(
        "suite.yaml",
        f"--model={POISONED}",
        f"--baseline-record={base}",
        "--model-device=cpu",
        "--no-diagnosis",
        "--circuit-json=judged.json",
    )
    judged = AuditResult.model_validate_json((pytester.path / "judged.json").read_text()).assertions
    kept = store.read(swept).audit.assertions
    assert [(one.id, one.outcome, one.rows) for one in judged] == [(one.id, one.outcome, one.rows) for one in kept]


@pytest.mark.complete
def test_results_do_not_depend_on_what_a_worker_did_before(tmp_path: Path) -> None:
    run_of(tmp_path / "runs" / "a", HEALTHY, POISONED)
    setting = setting_in(tmp_path, SUITE, SUITE_OF_TWO)
    sweep = sweep_in(tmp_path, setting)
    sweep.run()
    made = timeless(tmp_path / "kept")
    assert len(made) == 6  # two of the baseline
    for file in (tmp_path / "kept").iterdir():
        file.unlink()
    turned = sweep_in(tmp_path, setting)
    turned.found = tuple(reversed(turned.found))
    turned.run()
    assert timeless(tmp_path / "kept") == made


def test_a_full_disk_is_one_sentence_and_keeps_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(tmp_path / "runs" / "a", HEALTHY, POISONED)
    written: list[Path] = []

    def full(file: Path, content: str | bytes) -> None:
        if written:
            raise NotWrittenError(f"{file} cannot be written: {os.strerror(errno.ENOSPC)}")
        written.append(file)
        write_whole(file, content)

    monkeypatch.setattr(store, "write_whole", full)
    with pytest.raises(SweepError) as raised:
        sweep_in(tmp_path, setting_in(tmp_path)).run()
    assert says(raised.value, os.strerror(errno.ENOSPC), "continues")
    assert "\n" not in str(raised.value)
    assert list((tmp_path / "kept").iterdir()) == written


@pytest.mark.complete
def test_bisection_audits_fewer_checkpoints_and_finds_the_same_turn(tmp_path: Path) -> None:
    run_of(tmp_path / "runs" / "a", *[HEALTHY] * 6, POISONED, POISONED, POISONED)
    workers = InThisProcess()
    sweep = sweep_in(tmp_path, setting_in(tmp_path, baseline=False), workers=workers)
    sweep.bisect()
    result = sweep.result(bisected=True)
    assert {(one.held_before, one.broke) for one in result.first_broken} == {
        ("runs/a/checkpoint-60", "runs/a/checkpoint-70")
    }
    looked_at = [one.checkpoint for one in result.checkpoints if one.looked_at]
    assert len(workers.did) == len(looked_at) < 7


FROM_WORKER = "said by the worker"


class _Pool:
    """A process pool of one that is lost at some calls."""

    def __init__(self, lost: list[bool]) -> None:
        self.lost = lost

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.lost and self.lost.pop(0):
            future.set_exception(BrokenExecutor())
        else:
            future.set_result(work(*arguments))
        return future


@pytest.mark.parametrize(("lost", "problem"), [([True, False, True], False), ([True] * 2 * ATTEMPTS, True)])
def test_a_lost_worker_is_replaced_and_only_its_own_unit_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: list[bool], problem: bool
) -> None:
    run_of(tmp_path / "a", HEALTHY, HEALTHY)
    pool = _Pool(lost)
    monkeypatch.setattr(local._Slot, "pool", property(lambda slot: pool))
    monkeypatch.setattr(local, "audit_unit", lambda setting, shared, unit: Done(unit, problem=FROM_WORKER))
    monkeypatch.setattr(local, "_retried", lambda slot, setting: ((), ()))
    units = [Unit(one.checkpoint, 0) for one in found_checkpoints(["a/*"]) if one.checkpoint is not None]
    done = list(LocalWorkers(2).run(setting_in(tmp_path), units))
    assert sorted(str(one.unit.checkpoint) for one in done) == ["a/checkpoint-10", "a/checkpoint-20"]
    assert [one.problem != FROM_WORKER for one in done] == [problem, problem]


def test_without_ray_one_sentence_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    run_of(tmp_path / "runs" / "a", HEALTHY)
    sweep = sweep_in(tmp_path, setting_in(tmp_path))
    sweep.workers = RayWorkers()
    with pytest.raises(SweepError) as raised:
        sweep.run()
    assert says(raised.value, "pip install 'circuit-assertions[ray]'")
    assert "\n" not in str(raised.value)


class _Told(InThisProcess):
    """Workers that judge nothing: a checkpoint fails if it is called so."""

    def run(self, setting: Setting, units: Any) -> Any:
        shared: Shared = ()
        assert shared == ()
        for unit in units:
            self.did.append(unit)
            yield Done(unit, problem="it is damaged")


def test_a_half_written_checkpoint_waits_and_what_fails_runs_the_command(tmp_path: Path) -> None:
    run, workers = tmp_path / "run", _Told()
    weights = (HEALTHY / "model.safetensors").read_bytes()
    step = run / "checkpoint-10"
    step.mkdir(parents=True)
    (step / "config.json").write_bytes((HEALTHY / "config.json").read_bytes())
    (step / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    sweep = sweep_in(tmp_path, setting_in(tmp_path, baseline=False), "suite-0.yaml", workers=workers)
    sweep.found = ()
    waited: list[str] = []
    failed: list[str] = []
    watch = watching.Watch("run", sweep, every=1.0)
    watch.waits, watch.failed = waited.append, lambda one: failed.append(one.checkpoint)
    looks = 0

    class EnoughError(Exception):
        pass

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        assert seconds == 1.0
        if looks < 4:
            assert workers.did == []
        if looks == 3:
            (step / "model.safetensors").write_bytes(weights)
        if looks == 7:
            raise EnoughError

    with pytest.raises(EnoughError):
        watch.run(sleep)
    assert waited[0] == "run/checkpoint-10"
    assert failed == ["run/checkpoint-10"]
    assert [str(unit.checkpoint) for unit in workers.did] == ["run/checkpoint-10"]  # once

    note = tmp_path / "note"
    script = "import os, sys; open(sys.argv[1], 'w').write(os.environ['CIRCUIT_ASSERTIONS_CHECKPOINT'])"
    command = [sys.executable, "-c", script, "note"]
    assert watching.run_on_fail(command, sweep.swept["run/checkpoint-10"]) == ""
    assert note.read_text() == "run/checkpoint-10"
    assert says(watching.run_on_fail(["no-such-command; ls"], sweep.swept["run/checkpoint-10"]), "no-such-command; ls")


def test_watching_ends_when_nothing_comes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    sweep = sweep_in(tmp_path, setting_in(tmp_path, baseline=False), "suite-0.yaml")
    sweep.found = ()
    watching.Watch("run", sweep, every=0.01, stop_after=0.05).run()
    assert sweep.swept == {}
    with pytest.raises(SweepError):
        watching.Watch("no-run", sweep).run()
