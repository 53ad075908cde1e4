"""`circuit-assertions hunt`: find the simplest prompt on which an assertion fails that holds on average."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from circuit_assertions.cli.options import add_circuit_of_model, add_opening, add_policy
from circuit_assertions.cli.output import Outcome
from circuit_assertions.cli.record_options import add_folder

__all__ = ["add_hunt"]


def add_hunt(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("hunt", help="find the simplest prompt on which an assertion fails that holds on average")
    verb.add_argument("assertion", metavar="SUITE::ID", help="an assertion, as pytest names it: suites/mine.yaml::ID")
    verb.add_argument("--model", required=True, help="a checkpoint folder, a GGUF file, a PEFT adapter, or a hub id")
    verb.add_argument(
        "--baseline",
        metavar="PATH",
        help="the healthy checkpoint that `retains:` is measured against; it also provides what the model lacks",
    )
    add_circuit_of_model(verb)
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of the prompts that are drawn (default 0)")
    verb.add_argument(
        "--examples",
        type=_count,
        default=200,
        metavar="N",
        help="how many prompts are drawn at most until one fails (default %(default)s)",
    )
    verb.add_argument(
        "--by",
        type=_amount,
        default=0.0,
        metavar="X",
        help="count a prompt only if it misses the assertion by more than this, in the unit of the measure (default 0)",
    )
    verb.add_argument(
        "--no-database", action="store_true", help="neither begin with prompts of earlier runs, nor keep any"
    )
    verb.add_argument(
        "--save",
        nargs="?",
        const="",
        metavar="NAME",
        help="write a record of the search, with the assertion's reading on average, which `circuit-assertions show` "
        "prints. With =NAME it can be called by that name",
    )
    add_folder(verb)
    add_opening(verb)
    add_policy(verb)
    verb.add_argument("--json", action="store_true", help="print the result as JSON, and only that")
    verb.epilog = (
        "Exit code 0: no prompt was found on which the assertion fails. 1: one was found, or the assertion is broken "
        "on average, and nothing was searched. 2: it could not be done. A prompt that fails is kept in "
        ".hypothesis/examples, which the next run begins with; after Ctrl-C too."
    )
    verb.set_defaults(run=_hunt)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of prompts")
    return int(text)


def _amount(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return number


def _hunt(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.cli.run_hunt import run_hunt

    return run_hunt(given)
