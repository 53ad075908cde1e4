"""What the verbs that open a checkpoint have in common: options, and an audit with progress on stderr."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from circuit_assertions import CircuitAssertionsError

if TYPE_CHECKING:
    from circuit_assertions.audit import Audit
    from circuit_assertions.checkpoints import Checkpoint, Opening

__all__ = ["add_opening", "one_checkpoint", "open_audit", "opening_of"]


def add_opening(verb: argparse.ArgumentParser) -> None:
    """Add the options that say how a checkpoint is opened."""
    verb.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    verb.add_argument("--dtype", default="float32", choices=("float32", "float64", "bfloat16", "float16"))
    verb.add_argument("--tokenizer", help="take the tokenizer from here instead of from the checkpoint")
    verb.add_argument("--allow-pickle", action="store_true", help="read pickled weights")
    verb.add_argument("--trust-remote-code", action="store_true", help="run the Python code that a checkpoint ships")


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


def opening_of(given: argparse.Namespace, baseline: Checkpoint | None = None) -> Opening:
    """How checkpoints are opened, as the options say."""
    from circuit_assertions.checkpoints import Opening, Permissions

    permissions = Permissions(given.allow_pickle, given.trust_remote_code)
    return Opening(given.device, given.dtype, given.tokenizer, baseline, permissions)


def open_audit(given: argparse.Namespace, baseline: Checkpoint | None = None) -> Audit:
    """An audit as the options say, which tells on stderr what takes long."""
    from circuit_assertions.audit import Audit
    from circuit_assertions.report.progress import Progress

    return Audit(opening_of(given, baseline), baseline, Progress(sys.stderr, live=sys.stderr.isatty()))
