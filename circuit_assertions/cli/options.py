"""What the verbs that open a checkpoint have in common: options, an audit, progress on stderr."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuit_assertions import CircuitAssertionsError

if TYPE_CHECKING:
    from circuit_assertions.audit import Audit
    from circuit_assertions.checkpoints import Checkpoint, Opening, Permissions
    from circuit_assertions.policy import Policy
    from circuit_assertions.report import Progress

__all__ = [
    "VerbParser",
    "add_circuit_of_model",
    "add_lender",
    "add_model_and_task",
    "add_opening",
    "add_permissions",
    "add_policy",
    "in_one_go",
    "lender_of",
    "one_checkpoint",
    "open_audit",
    "opening_of",
    "permissions_of",
    "policy_of",
    "progress_on_stderr",
]


class VerbParser(argparse.ArgumentParser):
    """The parser of a verb, some of whose options are only looked for when it is the verb that is run.

    Attributes:
        add_late: adds these options.
    """

    add_late: Callable[[argparse.ArgumentParser], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, with all options."""
        if self.add_late is not None:
            add, self.add_late = self.add_late, None
            add(self)
        return super().parse_known_args(args, namespace)


def whole(text: str) -> int:
    """The whole number that an option was given.

    Raises:
        argparse.ArgumentTypeError: if it is none.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def count(text: str) -> int:
    """The number of things, at least one, that an option was given.

    Raises:
        argparse.ArgumentTypeError: if it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def add_model_and_task(verb: argparse.ArgumentParser) -> None:
    """Add the options that say which one checkpoint is asked, and what."""
    verb.add_argument("--model", required=True, help="a checkpoint folder, a GGUF file, a PEFT adapter, or a hub id")
    verb.add_argument(
        "--task",
        help="a kind of task (default indirect object identification; `circuit-assertions tasks` lists them), a task "
        "file, or suite.yaml::task",
    )


def add_opening(verb: argparse.ArgumentParser) -> None:
    """Add the options that say how a checkpoint is opened."""
    # Messages that are the same under pytest name its options, so that these are known here too.
    verb.add_argument(
        "--device",
        "--model-device",
        default="auto",
        help="auto (default), cpu, cuda, cuda:N, all (every GPU together) or mps",
    )
    verb.add_argument(
        "--dtype", "--model-dtype", default="float32", choices=("float32", "float64", "bfloat16", "float16")
    )
    verb.add_argument("--tokenizer", help="take the tokenizer from here instead of from the checkpoint")
    add_permissions(verb)


def add_circuit_of_model(verb: argparse.ArgumentParser) -> None:
    """Add the option that names the circuit file of the model, to a verb that judges suites as an audit does."""
    verb.add_argument(
        "--circuit",
        type=Path,
        metavar="FILE",
        help="the model's circuit; default the file that fits it, as in audits",
    )


def add_lender(verb: argparse.ArgumentParser) -> None:
    """Add the option that says where to take what the checkpoint lacks, to a verb that compares it with nothing."""
    verb.add_argument(
        "--baseline",
        metavar="PATH",
        help="a checkpoint that provides what this one lacks: an adapter's base, a tokenizer",
    )


def lender_of(given: argparse.Namespace) -> Checkpoint | None:
    """The checkpoint that `add_lender`'s option names.

    Raises:
        CheckpointError: if there is none.
        CircuitAssertionsError: if it is a training run.
    """
    return one_checkpoint(given.baseline) if given.baseline else None


def add_permissions(verb: argparse.ArgumentParser) -> None:
    """Add the options that allow what a checkpoint could do harm with."""
    verb.add_argument("--allow-pickle", action="store_true", help="read pickled weights")
    verb.add_argument("--trust-remote-code", action="store_true", help="run the Python code that a checkpoint ships")


def add_policy(verb: argparse.ArgumentParser) -> None:
    """Add the option that says by which thresholds is judged."""
    # Messages that are the same under pytest name its option, so that it is known here too.
    verb.add_argument(
        "--policy",
        "--circuit-policy",
        default="default",
        metavar="NAME|FILE",
        help="the thresholds of all verdicts: `default`, `strict`, `lenient`, or a YAML file "
        "(`circuit-assertions policy` lists them)",
    )


def policy_of(given: argparse.Namespace) -> Policy:
    """The policy that `add_policy`'s option names.

    Raises:
        PolicyError: if there is none.
        SuiteError: if its file is not valid.
    """
    from circuit_assertions.assertions.policy_file import policy_named

    return policy_named(given.policy)


def one_checkpoint(said: str) -> Checkpoint:
    """The checkpoint that a person named.

    Raises:
        CheckpointError: if there is none.
        CircuitAssertionsError: if it is a training run.
    """
    from circuit_assertions.checkpoints import find_checkpoints

    found = find_checkpoints(said)
    if len(found) > 1:
        raise CircuitAssertionsError(f"{said} is a training run: name one of its checkpoints")
    return found[0]


def permissions_of(given: argparse.Namespace) -> Permissions:
    """What the options allow."""
    from circuit_assertions.checkpoints import Permissions

    return Permissions(given.allow_pickle, given.trust_remote_code)


def opening_of(given: argparse.Namespace, base: Checkpoint | None = None) -> Opening:
    """How checkpoints are opened, as the options say.

    Args:
        base: provides the weights of an adapter's base, and the tokenizer of a checkpoint without one.
    """
    from circuit_assertions.checkpoints import Opening

    return Opening(given.device, given.dtype, given.tokenizer, base, permissions_of(given))


def open_audit(given: argparse.Namespace, baseline: Checkpoint | None = None) -> Audit:
    """An audit with these options, of checkpoints that are compared with the baseline."""
    from circuit_assertions.audit import Audit
    from circuit_assertions.cli.cache import cache_of_project

    return Audit(opening_of(given, baseline), baseline, policy_of(given), cache=cache_of_project(given))


@contextlib.contextmanager
def progress_on_stderr(whole: bool = False) -> Iterator[Progress]:
    """Progress on stderr: stdout has the result, and may go into a file. No line of it is left on the screen.

    Args:
        whole: whether all readings are one piece of work.
    """
    progress = _progress(whole)
    if whole:
        progress.begin()
    try:
        yield progress
    finally:
        progress.end()


def _progress(whole: bool) -> Progress:
    from circuit_assertions.report.live_progress import LiveProgress, can_be_redrawn
    from circuit_assertions.report.progress import Progress

    if can_be_redrawn(sys.stderr):
        return LiveProgress(sys.stderr, whole=whole)
    return Progress(sys.stderr, live=False, whole=whole)


@contextlib.contextmanager
def in_one_go(audit: Audit, said: Callable[[str], str]) -> Iterator[Progress]:
    """Tell all that an audit reads as one piece of work.

    Args:
        said: what people are told of a reading, given the audit's name for it.
    """
    with progress_on_stderr(whole=True) as progress:
        audit.progress = lambda what, done, total: progress(said(what), done, total)
        yield progress
