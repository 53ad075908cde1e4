"""`circuit-assertions trajectory`: a training run and its baseline: where each assertion broke and held again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli.baseline_options import add_comparing
from circuit_assertions.cli.output import Outcome
from circuit_assertions.verdict_words import Overall

__all__ = ["add_trajectory"]


def add_trajectory(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("trajectory", help="follow a training run: where each assertion broke and held again")
    add_comparing(verb, "a folder with checkpoint-N/ folders", metavar="RUN")
    verb.epilog = (
        "Exit code 0: nothing is broken at the last checkpoint. 1: something is, or with --circuit-degraded=fail it is "
        f"{Overall.DEGRADED}. 2: a checkpoint or an assertion could not be judged."
    )
    verb.set_defaults(run=_trajectory)


def _trajectory(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.checkpoints import find_checkpoints
    from circuit_assertions.cli.run_trajectory import follow_run

    run = find_checkpoints(given.model)
    if not run[0].label:
        raise CircuitAssertionsError(
            f"{given.model} is not a training run (a folder with checkpoint-N/ folders): use "
            f"`circuit-assertions diagnose` for a single checkpoint"
        )
    return follow_run(given, run)
