"""`circuit-assertions audit`: the packaged suites on a checkpoint, by pytest."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli.output import Outcome, hush

__all__ = ["add_audit"]


def add_audit(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("audit", help="run the packaged suites on a checkpoint: pytest --model with them")
    verb.add_argument("model", help="a checkpoint folder, a GGUF file, a PEFT adapter, a training run, or a hub id")
    verb.add_argument(
        "--json", action="store_true", help="print the result as JSON, and what pytest prints on stderr instead"
    )
    verb.epilog = "Further options are pytest's, and those that `pytest --help` lists under circuit assertions."
    verb.set_defaults(run=_audit)


def _audit(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.plugin.launch import run_packaged_suites

    try:
        if given.json:
            return _audit_as_json(given.model, rest)
        return Outcome("", run_packaged_suites(given.model, rest))  # pytest has said it all
    except BrokenPipeError:
        raise
    except OSError as error:
        # What stops pytest from telling of an error is mostly that it cannot print.
        hush(sys.stdout)
        raise CircuitAssertionsError(f"the audit was stopped: {error.strerror}") from error


def _audit_as_json(model: str, rest: Sequence[str]) -> Outcome:
    """Nothing is printed where the audit did not come to a result; stderr then says why."""
    from circuit_assertions.plugin.launch import run_packaged_suites

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        file = Path(folder) / "audit.json"
        code = run_packaged_suites(model, [*rest, f"--circuit-output=json:{file}"])
        return Outcome(file.read_text("utf-8").rstrip("\n") if file.is_file() else "", code)
