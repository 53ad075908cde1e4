"""`circuit-assertions sweep`: suites on many checkpoints, and one comparison of them all."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuit_assertions.cli.options import add_circuit_of_model, add_opening, add_policy
from circuit_assertions.cli.output import Outcome
from circuit_assertions.places import suite_path

__all__ = ["add_sweep"]


def add_sweep(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("sweep", help="audit many checkpoints by several processes, and compare them")
    verb.add_argument(
        "--models",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATTERN",
        help="checkpoint folders, training runs, GGUF files, or patterns of them in quotes: 'runs/*/checkpoint-*'",
    )
    verb.add_argument(
        "--suites",
        nargs="+",
        action="extend",
        type=suite_path,
        metavar="SUITE",
        help="suite files, or folders of them; default suites/, else the packaged suites",
    )
    verb.add_argument("--baseline", help="the healthy checkpoint that all are compared with")
    verb.add_argument("--corrupted", help="a known-bad checkpoint; recovery is measured from it")
    verb.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("sweep"),
        metavar="FOLDER",
        help="where sweep.html, sweep.json and the records are written (default sweep/). What has a record there is "
        "not done again",
    )
    verb.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="`local` (default): processes of this machine; `ray`: a Ray cluster, which is started here if there is "
        "none (pip install 'circuit-assertions[ray]')",
    )
    verb.add_argument("--jobs", type=_positive, metavar="N", help="how many processes (default one a core, at most 8)")
    verb.add_argument("--ray-address", metavar="HOST:PORT", help="of an existing Ray cluster; default RAY_ADDRESS")
    verb.add_argument(
        "--bisect", action="store_true", help="audit only the checkpoints of each run that finding the turns needs"
    )
    _add_watching(verb)
    add_circuit_of_model(verb)
    add_opening(verb)
    add_policy(verb)
    verb.add_argument("--json", action="store_true", help="print the comparison as JSON, and only that")
    verb.epilog = (
        "Exit code 0: every checkpoint passes its gate. 1: one does not. 2: one could not be read or judged, or the "
        "sweep was stopped."
    )
    verb.set_defaults(run=_sweep)


def _add_watching(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--watch",
        metavar="FOLDER",
        help="audit checkpoint-N/ folders as a training run writes them into this folder, until Ctrl-C; instead of "
        "--models",
    )
    verb.add_argument(
        "--every", type=_seconds, default=10.0, metavar="SECONDS", help="between two looks (default %(default)g)"
    )
    verb.add_argument(
        "--stop-after", type=_seconds, metavar="SECONDS", help="end once nothing new has come for so long"
    )
    verb.add_argument(
        "--on-fail",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="a command with its arguments, run without a shell for every checkpoint that does not pass; it must "
        "stand last",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes, from 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number


def _sweep(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.cli.run_sweep import run_sweep

    return run_sweep(given)
