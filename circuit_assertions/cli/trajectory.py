"""`circuit-assertions trajectory`: a training run beside its baseline, and where each assertion broke and came back."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuit_assertions.cli.options import add_opening

__all__ = ["add_trajectory"]


def add_trajectory(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("trajectory", help="follow a training run: where each assertion broke and came back")
    verb.add_argument("--model", required=True, metavar="RUN", help="a folder with checkpoint-N/ folders")
    verb.add_argument("--baseline", required=True, help="the healthy checkpoint that the run is held against")
    verb.add_argument("--corrupted", help="a known-bad checkpoint, for assertions about recovery")
    verb.add_argument(
        "--suite",
        action="append",
        type=Path,
        metavar="FILE",
        help="the assertions, repeatable; default the suite named like the circuit, in suites/ or packaged",
    )
    verb.add_argument(
        "--task",
        help="what behaviour and roles are measured on: ioi, repeated-tokens, a task file, or suite.yaml::task; "
        "default the first task of the suite that can be patched, else ioi",
    )
    verb.add_argument(
        "--circuit",
        type=Path,
        metavar="FILE",
        help="the baseline's circuit; default the file of suites/circuits that was found on the baseline, else it is "
        "discovered",
    )
    verb.add_argument("--prompts", type=int, metavar="N", help="of --task; default the task's, at most 128")
    verb.add_argument("--bisect", action="store_true", help="audit only the checkpoints that finding the turns needs")
    add_opening(verb)
    verb.add_argument("--json", action="store_true", help="print the trajectory as JSON, and only that")
    verb.add_argument("-o", "--output", type=Path, metavar="FILE.svg", help="draw behaviour and roles over steps")
    verb.epilog = (
        "Exit code 0: nothing is broken at the last checkpoint. 1: something is. 2: a checkpoint or an assertion could "
        "not be judged."
    )
    verb.set_defaults(run=_trajectory)


def _trajectory(given: argparse.Namespace, rest: Sequence[str]) -> int:
    from circuit_assertions.cli.following import follow_run

    return follow_run(given)
