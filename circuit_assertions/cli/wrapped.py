"""`circuit-assertions wrapped`: whether a behaviour that a fine-tuning took away is removed, or only wrapped."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuit_assertions.cli.options import (
    add_opening,
    add_policy,
    count,
    in_one_go,
    one_checkpoint,
    open_audit,
)
from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.cli.task_options import add_keys_of_kinds, keys_of_kinds
from circuit_assertions.verdict_words import WrappingVerdict

__all__ = ["add_wrapped", "text_of"]

_RATE, _BATCH = 1e-4, 16


def add_wrapped(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("wrapped", help="is a behaviour that fine-tuning took away removed, or only wrapped?")
    verb.add_argument("--model", required=True, help="the fine-tuned checkpoint")
    verb.add_argument("--baseline", required=True, help="the checkpoint before, which shows the behaviour")
    verb.add_argument(
        "--control",
        metavar="PATH",
        help=f"a checkpoint of the same shape that never had the behaviour; without it no verdict is "
        f"{WrappingVerdict.REMOVED}",
    )
    verb.add_argument(
        "--task",
        help="the behaviour: a kind of task (`circuit-assertions tasks` lists them), a task file, or suite.yaml::task; "
        "default indirect object identification",
    )
    verb.add_argument("--prompts", type=int, metavar="N", help="how many prompts; default those of the policy")
    verb.add_late = add_keys_of_kinds
    verb.add_argument("--text", type=Path, metavar="FILE", help="ordinary text; default text that the baseline writes")
    verb.add_argument(
        "--revival",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fine-tune copies in memory, which takes the most time (default: yes)",
    )
    verb.add_argument("--rate", type=_rate, default=_RATE, metavar="X", help="its learning rate (default %(default)g)")
    verb.add_argument(
        "--batch", type=count, default=_BATCH, metavar="N", help="prompts of one step (default %(default)s)"
    )
    verb.add_argument("--steps", type=count, metavar="N", help="after how many it ends; default those of the policy")
    verb.add_argument("--seeds", type=_seeds, metavar="N", help="how often; default that of the policy")
    add_policy(verb)
    add_opening(verb)
    verb.add_argument("--json", action="store_true", help="print what was found as JSON, and only that")
    verb.epilog = f"Exit code 0: {WrappingVerdict.REMOVED}. 1: any other verdict. 2: it could not be done."
    verb.set_defaults(run=_wrapped)


def _seeds(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seeds from 2: one shows no spread")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a learning rate between 0 and 1")
    return rate


def text_of(file: Path | None) -> str | None:
    """What stands in a file of ordinary text; None where none is given.

    Raises:
        CircuitAssertionsError: if it cannot be read.
    """
    if file is None:
        return None
    from circuit_assertions import CircuitAssertionsError
    from circuit_assertions.bounded import UnreadableError, read_bounded

    try:
        return read_bounded(file, 64 << 20).decode("utf-8-sig")
    except UnreadableError as error:
        raise CircuitAssertionsError(f"{file} {error}") from error
    except UnicodeDecodeError as error:
        raise CircuitAssertionsError(f"{file} cannot be read: it is not in UTF-8") from error


def _wrapped(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.assertions.task_lookup import find_task

    called, task = find_task(given.task, {"prompts": given.prompts} | keys_of_kinds(given))
    model, baseline = one_checkpoint(given.model), one_checkpoint(given.baseline)
    control = one_checkpoint(given.control) if given.control else None
    text = text_of(given.text)

    from circuit_assertions.engine.training import Course
    from circuit_assertions.report.wrapped import wrapped_lines
    from circuit_assertions.results.from_wrapped import wrapped_result
    from circuit_assertions.tuning.found import Asked
    from circuit_assertions.tuning.wrapping import examine

    audit = open_audit(given, baseline)
    policy = audit.policy
    course = Course(given.rate, given.batch, given.steps or policy.revival_steps)
    seeds = given.seeds or policy.revival_seeds
    with in_one_go(audit, lambda what: what) as progress:
        found = examine(
            audit,
            Asked(*(model, baseline, control, task, called), *(given.revival, course, seeds, text), tell=progress),
        )
    result = wrapped_result(found)
    return Outcome(result.to_json() if given.json else printed(wrapped_lines(result)), found.verdict.exit.code)
