"""What `circuit-assertions sweep` does with its options."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli.options import one_checkpoint, opening_of, policy_of
from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.cli.suites_named import suites_named
from circuit_assertions.diagnosis.suites_given import suites_given
from circuit_assertions.files import NotWrittenError, write_whole
from circuit_assertions.printable import printable
from circuit_assertions.report.swept import checkpoint_line, swept_lines
from circuit_assertions.report.swept_page import swept_page
from circuit_assertions.results import SweepResult
from circuit_assertions.results.sweep import SweptCheckpoint
from circuit_assertions.sweeps.asked import Setting, found_checkpoints
from circuit_assertions.sweeps.kept_records import KeptRecords
from circuit_assertions.sweeps.local import LocalWorkers
from circuit_assertions.sweeps.running import Sweep, Workers
from circuit_assertions.sweeps.watching import Watch, run_on_fail
from circuit_assertions.verdict_words import Outcome as AssertionOutcome

__all__ = ["run_sweep"]

_MOST_JOBS = 8  # by default: each has a model, and often a baseline, in memory
_RECORDS, _PAGE, _JSON = "records", "sweep.html", "sweep.json"


def run_sweep(given: argparse.Namespace) -> Outcome:
    """Audit many checkpoints, and compare them.

    Args:
        given: what `add_sweep` has options for.

    Raises:
        CircuitAssertionsError: if the sweep cannot be started, or cannot go on.
    """
    _check(given)
    setting = _setting(given)
    found = () if given.watch else found_checkpoints(given.models)
    folder = given.output / _RECORDS
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CircuitAssertionsError(f"{folder} cannot be made: {error.strerror}; give -o FOLDER") from error
    workers = _workers(given, len(found) * len(setting.suites))
    sweep = Sweep(found, KeptRecords(folder, setting), workers)
    total = len(found)

    def tell(one: SweptCheckpoint) -> None:
        place = f"[{len(sweep.swept)}/{total}] " if total else ""
        print(printable(f"{place}{checkpoint_line(one)}"), file=sys.stderr, flush=True)

    sweep.tell = tell
    try:
        _run(given, sweep)
    finally:
        workers.close()
    result = sweep.result(given.bisect)
    _write(given.output, result)
    text = result.to_json() if given.json else f"{printed(swept_lines(result))}\n\npage: {given.output / _PAGE}"
    return Outcome(text, _code(result))


def _check(given: argparse.Namespace) -> None:
    if bool(given.models) == bool(given.watch):
        raise CircuitAssertionsError("give the checkpoints with --models PATTERN, or a folder to watch with --watch")
    if given.watch and given.bisect:
        raise CircuitAssertionsError("--bisect needs a run that is complete: leave out --watch")
    if given.corrupted and not given.baseline:
        raise CircuitAssertionsError("--corrupted measures recovery and needs --baseline as well")
    if given.on_fail is not None and not given.on_fail:
        raise CircuitAssertionsError("--on-fail has no command: give it with its arguments, as the last option")


def _setting(given: argparse.Namespace) -> Setting:
    baseline = one_checkpoint(given.baseline) if given.baseline else None
    suites = tuple(suites_named(given.suites))
    suites_given(suites, given.circuit)  # a mistake in a suite is said before any work
    return Setting(
        folder=Path.cwd(),
        suites=suites,
        opening=opening_of(given, baseline),
        baseline=baseline,
        corrupted=one_checkpoint(given.corrupted) if given.corrupted else None,
        policy=policy_of(given),
        circuit=given.circuit,
    )


def _workers(given: argparse.Namespace, units: int) -> Workers:
    if given.engine == "ray":
        from circuit_assertions.sweeps.on_ray import RayWorkers

        return RayWorkers(given.jobs, given.ray_address)
    if given.ray_address:
        raise CircuitAssertionsError("--ray-address is of a Ray cluster: give --engine ray as well")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = given.jobs or min(cores, _MOST_JOBS)
    return LocalWorkers(max(1, min(jobs, units)) if units else jobs)


def _run(given: argparse.Namespace, sweep: Sweep) -> None:
    def failed(one: SweptCheckpoint) -> None:
        if given.on_fail and (problem := run_on_fail(given.on_fail, one)):
            print(printable(f"circuit-assertions: {problem}"), file=sys.stderr, flush=True)

    if given.watch:
        watch = Watch(given.watch, sweep, given.every, given.stop_after, failed)
        waited = set[str]()

        def waits(name: str) -> None:
            if name not in waited:
                waited.add(name)
                print(printable(f"{name}: waits until it is written"), file=sys.stderr, flush=True)

        watch.waits, watch.changed = waits, lambda: _write(given.output, sweep.result())
        try:
            watch.run()
        except KeyboardInterrupt:
            print("\n" * sys.stderr.isatty() + "circuit-assertions: not watching any more", file=sys.stderr)
        return
    (sweep.bisect if given.bisect else sweep.run)()
    for one in sweep.result().checkpoints:
        if one.looked_at and not one.passed:
            failed(one)


def _write(folder: Path, result: SweepResult) -> None:
    try:
        write_whole(folder / _JSON, result.to_json())
        write_whole(folder / _PAGE, swept_page(result))
    except NotWrittenError as error:
        raise CircuitAssertionsError(f"{error}; the records are kept in {folder / _RECORDS}") from error


def _code(result: SweepResult) -> int:
    looked_at = [one for one in result.checkpoints if one.looked_at]
    unread = any(one.problem or one.count(AssertionOutcome.ERROR) for one in looked_at)
    return 2 if unread else int(not all(one.passed for one in looked_at))
