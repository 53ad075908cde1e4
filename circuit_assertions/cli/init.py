"""`circuit-assertions init`: find the circuit of a base model, and write a suite and a CI file that gate on it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuit_assertions.cli.options import add_model_and_task
from circuit_assertions.cli.output import Outcome
from circuit_assertions.cli.searching import add_search

__all__ = ["add_init"]

WORKFLOW = Path(".github", "workflows", "circuits.yml")


def add_init(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("init", help="start here: find a base model's circuit, and write a suite and a CI file")
    add_model_and_task(verb)
    verb.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the circuit file; default suites/circuits/<name>.yaml"
    )
    verb.add_argument("--suite", type=Path, metavar="FILE", help="the suite; default suites/<circuit>.yaml")
    verb.add_argument(
        "--ci", type=Path, metavar="FILE", default=WORKFLOW, help="the GitHub workflow; default %(default)s"
    )
    verb.add_argument("--no-ci", action="store_const", const=None, dest="ci", help="write no workflow")
    verb.add_argument(
        "--candidate",
        default="checkpoints/candidate",
        metavar="PATH",
        help="where the checkpoint is that the workflow will test; default %(default)s",
    )
    add_search(verb)
    verb.epilog = (
        "Exit code 0: the files are written, and the base passes its own suite. 1: no circuit was found and nothing "
        "is written, or an assertion does not hold on the base. 2: it could not be done. No existing file is changed."
    )
    verb.set_defaults(run=_init)


def _init(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.cli.run_init import run_init

    return run_init(given)
