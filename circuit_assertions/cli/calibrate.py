"""`circuit-assertions calibrate`: compare a model with itself under other settings, and write the tolerances."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuit_assertions.cli.options import add_circuit_of_model, add_lender, add_opening, add_policy
from circuit_assertions.cli.output import Outcome
from circuit_assertions.places import suite_path

__all__ = ["add_calibrate"]

_PROMPTS = 32  # the fewest of which measures that search read a half
_FEWEST = 8


def add_calibrate(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser(
        "calibrate", help="compare a model with itself under other dtypes, devices, batches, and write the tolerances"
    )
    verb.add_argument(
        "suites",
        nargs="*",
        type=suite_path,
        metavar="SUITE",
        help="suites whose measures are compared, on their tasks; default the packaged suites",
    )
    verb.add_argument("--model", required=True, help="a checkpoint of the shape that is audited, best the baseline")
    add_circuit_of_model(verb)
    verb.add_argument(
        "--prompts",
        type=_prompts,
        default=_PROMPTS,
        metavar="N",
        help="of each task; one half is for the tolerances, the other to test them (default %(default)s)",
    )
    verb.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write the calibration to this file, for --circuit-calibration: JSON if its name ends in .json, else YAML",
    )
    add_lender(verb)
    add_opening(verb)
    add_policy(verb)
    verb.add_argument("--json", action="store_true", help="print the result as JSON, and only that")
    verb.epilog = (
        "--dtype and --device choose the reference, which all other settings are compared with. Exit code 0: it was "
        "done. 2: it could not be done."
    )
    verb.set_defaults(run=_calibrate)


def _prompts(text: str) -> int:
    if not text.isdecimal() or int(text) < _FEWEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of prompts from {_FEWEST} on")
    return int(text)


def _calibrate(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.cli.run_calibration import run_calibration

    return run_calibration(given)
