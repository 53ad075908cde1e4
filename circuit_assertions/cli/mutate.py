"""`circuit-assertions mutate`: damage a model in memory, and see whether a suite notices."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuit_assertions.cli.options import add_circuit_of_model, add_lender, add_opening, add_policy
from circuit_assertions.cli.output import Outcome
from circuit_assertions.heads import HeadError, parse_head
from circuit_assertions.mutation.kinds import KINDS, STRENGTH
from circuit_assertions.places import suite_path

__all__ = ["add_mutate"]

_ALL = "all"


def add_mutate(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("mutate", help="damage a model in memory, and report which assertions notice it")
    verb.add_argument("suites", nargs="+", type=suite_path, metavar="SUITE", help="suites whose assertions are tested")
    verb.add_argument("--model", required=True, help="a healthy checkpoint, on which the suites pass; not changed")
    add_circuit_of_model(verb)
    verb.add_argument(
        "--heads",
        type=_heads,
        metavar="A,B,...|all",
        help="the heads that are damaged: L2H0,L3H1; default those of the circuit, and those that assertions name",
    )
    verb.add_argument(
        "--only",
        type=_kinds,
        metavar="KIND,...",
        default=tuple(KINDS),
        help=f"the kinds of mutants that are made: {', '.join(KINDS)}; default all of them",
    )
    verb.add_argument(
        "--strength",
        type=_strength,
        default=STRENGTH,
        metavar="X",
        help="standard deviation of noise, in that of the weights that it is added to (default %(default)g: four "
        "fifths of what such weights then compute is noise)",
    )
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise (default 0)")
    verb.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="keep the outcome of each mutant in this file, and continue from what it keeps; default a file in the "
        "working directory that is removed at the end",
    )
    verb.add_argument(
        "--fail-under",
        type=_percent,
        metavar="PERCENT",
        help="exit with 1 if the mutation score is lower; every damaging mutant counts",
    )
    add_lender(verb)
    add_opening(verb)
    add_policy(verb)
    verb.add_argument("--json", action="store_true", help="print the result as JSON, and only that")
    verb.epilog = "Exit code 0: the test ran. 1: the mutation score is under --fail-under. 2: it could not be done."
    verb.set_defaults(run=_mutate)


def _heads(text: str) -> Any:
    if text.strip() == _ALL:
        return _ALL
    try:
        return tuple(parse_head(name) for name in text.split(","))
    except HeadError as error:
        raise argparse.ArgumentTypeError(f"{error}, or give `{_ALL}`") from error


def _kinds(text: str) -> tuple[str, ...]:
    from circuit_assertions.tasks.schema import closest

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in KINDS:
            raise argparse.ArgumentTypeError(f"{name!r} is not a kind of mutant{closest(name, list(KINDS))}")
    return names


def _strength(text: str) -> float:
    number = _number(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _percent(text: str) -> float:
    number = _number(text.strip().removesuffix("%"))
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _mutate(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.cli.run_mutation import run_mutation

    return run_mutation(given)
