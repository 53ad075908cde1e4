"""`circuit-assertions show`: a record as the audit had printed it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.cli.record_options import RUN_HELP, add_folder, record_named

__all__ = ["add_show"]


def add_show(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("show", help="print what a record holds: verdicts, diagnoses, settings")
    verb.add_argument("run_named", metavar="RUN", nargs="?", default="latest", help=f"{RUN_HELP}. Default: latest")
    add_folder(verb)
    verb.add_argument("--json", action="store_true", help="print the result of the audit as JSON, and only that")
    verb.set_defaults(run=_show)


def _show(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.report.recorded import RecordShown, record_lines

    entry = record_named(given, given.run_named)
    record = entry.record
    if given.json:
        return Outcome(record.audit.to_json())
    shown = RecordShown(
        name=record.name,
        started=record.started,
        seconds=record.seconds,
        redacted=record.redacted,
        options=record.options,
        readings=len(record.readings),
        prompts=len(record.prompts.hashes),
        values=sum(one.values.prompts * one.values.columns for one in record.readings),
        size=entry.file.stat().st_size,
        hunts=record.hunts,
    )
    return Outcome(printed(record_lines(shown, record.audit)))
