"""What the verbs about records have in common: the folder of records, and how one of them is named."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuit_assertions.records.store import Entry

__all__ = ["RUN_HELP", "add_folder", "folder_of", "in_project", "record_named"]

RUN_HELP = (
    "a record: its name or the beginning of it, the name given with --circuit-save=NAME, a file, `latest`, or "
    "`latest~1` for the one before"
)
_MARKS = ("pytest.ini", ".pytest.ini", "pytest.toml", "pyproject.toml", "tox.ini", "setup.cfg", ".git")


def add_folder(verb: argparse.ArgumentParser) -> None:
    """Add the option that names the folder."""
    verb.add_argument(
        "--records",
        type=Path,
        metavar="FOLDER",
        help="the folder of records. Default: .circuit-assertions/records in this folder, or in the nearest one above",
    )


def folder_of(given: argparse.Namespace) -> Path:
    """The folder of records: what was given, else that of the project."""
    from circuit_assertions.plugin.project_folders import RECORDS

    return in_project(RECORDS) if given.records is None else Path(given.records)


def in_project(wanted: Path) -> Path:
    """A folder of the project: in this folder, or in the nearest one above; here where there is none yet."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / wanted).is_dir():
            return wanted if folder == here else folder / wanted
        if any((folder / mark).exists() for mark in _MARKS):
            break
    return wanted


def record_named(given: argparse.Namespace, name: str) -> Entry:
    """The record that a person named.

    Raises:
        RecordError: if there is none, or it cannot be read.
    """
    from circuit_assertions.records.store import find

    return find(name, folder_of(given))
