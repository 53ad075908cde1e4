"""How often verdicts are wrong: the benchmark of verdicts. docs/quality.md has its table, and how to read it.

    python -m benchmarks.quality [--jobs N] [--only GROUP] [--seeds KIND] [--limit N] [--seed N]
    python -m benchmarks.quality --make      # train the models, and run nothing
    python -m benchmarks.quality --table     # write the table into docs/quality.md
    python -m benchmarks.quality --recheck N # run N cases of earlier code again with today's
    python -m benchmarks.quality --quick --json

Every case is declared, with what is true of it, in quality_cases.py. A run may be interrupted at any time: what is in
the results file is not run again. If the code has changed since, it is, unless `--recheck 20` (or more) found that
cases of the earlier code end the same today. Lines of other code stay in the file until `--forget-old`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.quality_cases import GROUPS, Case, declare, quick
from benchmarks.quality_results import RESULTS, Results, code_version

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_QUICK_DRAWS = 500
_process: dict[str, Any] = {}  # of a worker: what runs its cases


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not run yet; print the table, or everything as JSON."""
    given = _arguments(arguments)
    os.environ |= dict.fromkeys(_THREADS, "1")  # sums in another order would train other weights
    if given.quick:
        return _quick(given)
    results = Results.read(given.results)
    if given.forget_old:
        results.keep([code_version()])
    if given.recheck:
        if not _recheck(results, given):
            return 130
    elif not given.table:
        cases = [
            case
            for case in declare(given.seed)
            if given.only in (None, case.group) and given.seeds in (None, case.seeds)
        ]
        cases = cases[: given.limit]
        left = [case for case in cases if given.make or not results.has(case, code_version())]
        if not _all(left, results, given, already=len(cases) - len(left)):
            return 130
    if not given.make:
        _tell(results, given)
    return 0


def _recheck(results: Results, given: argparse.Namespace) -> bool:
    """Run some cases of earlier code again, and note what ended otherwise; False where the run was interrupted."""
    from benchmarks import quality_recheck

    cases = quality_recheck.drawn(results, given.recheck, given.seed)
    with tempfile.TemporaryDirectory() as folder:
        again = Results(Path(folder) / RESULTS.name)
        if not _all(cases, again, given, already=0):
            return False
    outcomes = {line["case"]: line for line in again.lines}
    quality_recheck.note(results, [(case, outcomes[case.name]) for case in cases])
    return True


def _tell(results: Results, given: argparse.Namespace) -> None:
    from benchmarks.quality_table import figures, table, write_table

    if given.json:
        print(json.dumps(figures(results), indent=1))
    elif given.table:
        write_table(results)
    else:
        print(table(results))


def _quick(given: argparse.Namespace) -> int:
    """Twelve cases and the simulated coverage, into a results file that is not kept."""
    from benchmarks import coverage
    from benchmarks.quality_table import figures, table

    with tempfile.TemporaryDirectory() as folder:
        results = Results(Path(folder) / RESULTS.name)
        given.made = given.made or Path(folder) / "made"
        if not _all(quick(given.seed), results, given, already=0):
            return 130
        cells = coverage.cells(_QUICK_DRAWS, given.seed)
        if given.json:
            cases = {case.name: {"truth": case.truth, "planted": case.planted} for case in quick(given.seed)}
            audits = [cases[line["case"]] | line for line in results.lines]
            told = {"audits": audits, "figures": figures(results), "coverage": [asdict(cell) for cell in cells]}
            print(json.dumps(told, indent=1))
        else:
            print(table(results), coverage.table(cells), sep="\n\n")
    return 0


def _all(cases: Sequence[Case], results: Results, given: argparse.Namespace, already: int) -> bool:
    """Run cases, noting each as it ends; False where the run was interrupted."""
    started, done = time.monotonic(), 0
    try:
        for case, outcome in _outcomes(cases, given):
            if not given.make:
                results.add(case, given.seed, code_version(), outcome)
            done += 1
            left = (time.monotonic() - started) / done * (len(cases) - done) / 60
            what = outcome.get("error", "") or outcome.get("gate", "")
            print(
                f"{already + done} of {already + len(cases)}, {left:.0f} min left: {case.name} {what}",
                file=sys.stderr,
                flush=True,
            )
    except KeyboardInterrupt:
        print(f"interrupted after {done} of {len(cases)}; the same command continues", file=sys.stderr)
        return False
    return True


def _outcomes(cases: Sequence[Case], given: argparse.Namespace) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Every case with its outcome, as they end."""
    start = (given.made, code_version())
    if given.jobs == 1:
        _begin(*start)
        for case in cases:
            yield case, _work(case, given.make)
        return
    # Spawned, because a forked process must not use the parent's torch.
    pool = ProcessPoolExecutor(given.jobs, get_context("spawn"), _begin, start)
    try:
        ahead, coming = dict[Future[dict[str, Any]], Case](), iter(cases)
        while True:
            with _without_ctrl_c():  # the processes that start here leave it to this one
                some = islice(coming, given.jobs - len(ahead))
                ahead |= {pool.submit(_work, case, given.make): case for case in some}
            if not ahead:
                return
            for one in wait(ahead, return_when=FIRST_COMPLETED).done:
                yield ahead.pop(one), one.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in list((pool._processes or {}).values()):
            worker.terminate()


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(made: Path | None, code: str) -> None:
    """Prepare a process."""
    import torch
    from transformers.utils import logging

    from benchmarks.quality_models import MADE_HERE
    from benchmarks.quality_runs import Runs

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    folder = tempfile.TemporaryDirectory(prefix="quality-")
    _process.update(folder=folder, runs=Runs(Path(folder.name), code, made or MADE_HERE))


def _work(case: Case, make: bool) -> dict[str, Any]:
    """The outcome of a case; with `make`, only its models are trained."""
    from benchmarks.quality_models import provide

    runs = _process["runs"]
    if not make:
        found: dict[str, Any] = runs.run(case)
        return found
    for weights in (case.weights, case.corrupted):
        if weights is not None:
            provide(weights, runs.made)
    return {}


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0, help="other seeds for the cases that report (default: 0)")
    parser.add_argument("--only", choices=GROUPS, help="cases of one group")
    parser.add_argument("--seeds", choices=("setting", "reporting"), help="the cases that set thresholds, or report")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N cases, a balanced sample of all")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes (default: 2)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--made", type=Path, metavar="DIR", help="trained models; default: fixtures/made/quality")
    parser.add_argument("--make", action="store_true", help="train the models, and run nothing")
    parser.add_argument("--table", action="store_true", help="run nothing, and write the table into docs/quality.md")
    parser.add_argument("--recheck", type=int, default=0, metavar="N", help="run N cases of the latest results again")
    parser.add_argument("--quick", action="store_true", help="12 audits and the simulated coverage")
    parser.add_argument("--forget-old", action="store_true", help="take results of other code out of the file")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if given.seed < 0 or given.jobs < 1 or given.recheck < 0 or (given.limit is not None and given.limit < 1):
        parser.error("--seed and --recheck are 0 or more; --jobs and --limit are 1 or more")
    return given


if __name__ == "__main__":
    sys.exit(main())
