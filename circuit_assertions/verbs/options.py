"""What the verbs that open a checkpoint have in common: options, and an audit with progress on stderr."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuit_assertions.audit import Audit
    from circuit_assertions.checkpoints import Checkpoint

__all__ = ["add_opening", "open_audit"]


def add_opening(verb: argparse.ArgumentParser) -> None:
    """Add the options that say how a checkpoint is opened."""
    verb.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    verb.add_argument("--dtype", default="float32", choices=("float32", "float64", "bfloat16", "float16"))
    verb.add_argument("--tokenizer", help="take the tokenizer from here instead of from the checkpoint")
    verb.add_argument("--allow-pickle", action="store_true", help="read pickled weights")
    verb.add_argument("--trust-remote-code", action="store_true", help="run the Python code that a checkpoint ships")


def open_audit(given: argparse.Namespace, baseline: Checkpoint | None = None) -> Audit:
    """An audit as the options say, which tells on stderr what takes long."""
    from circuit_assertions.audit import Audit
    from circuit_assertions.checkpoints import Opening, Permissions
    from circuit_assertions.report.progress import Progress

    permissions = Permissions(given.allow_pickle, given.trust_remote_code)
    opening = Opening(given.device, given.dtype, given.tokenizer, baseline, permissions)
    return Audit(opening, baseline, Progress(sys.stderr, live=sys.stderr.isatty()))
