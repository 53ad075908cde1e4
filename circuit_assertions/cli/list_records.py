"""`circuit-assertions list`: the records of this project."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.cli.record_options import add_folder, folder_of

__all__ = ["add_list"]


def add_list(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("list", help="list the records of this project, the oldest first")
    add_folder(verb)
    verb.add_argument("--json", action="store_true", help="print them as JSON, and only that")
    verb.epilog = "Exit code 0; 1 if a file of the folder cannot be read. The others are listed all the same."
    verb.set_defaults(run=_list)


def _list(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.records.errors import RecordError
    from circuit_assertions.records.store import Entry, history
    from circuit_assertions.report.recorded import RecordListed, list_lines

    def listed(entry: Entry) -> RecordListed:
        try:
            audit, problem = (None, entry.problem) if entry.raw is None else (entry.audit, "")
        except RecordError as error:
            audit, problem = None, str(error)
        return RecordListed(entry.name, entry.label, audit, problem)

    folder = folder_of(given)
    found = [listed(entry) for entry in history(folder)]
    code = 1 if any(one.audit is None for one in found) else 0
    if given.json:
        return Outcome(json.dumps([_plain(one) for one in found], indent=2), code)
    if not found:
        return Outcome(f"there is no record in {folder}: `pytest --model=path/ --circuit-save` makes one", code)
    return Outcome(printed(list_lines(found)), code)


def _plain(one: Any) -> dict[str, Any]:
    if one.audit is None:
        return {"name": one.name, "problem": one.problem}
    models = [model.model for model in one.audit.models]
    return {"name": one.name, "label": one.label, "models": models, "gate": one.audit.gate.model_dump(mode="json")}
