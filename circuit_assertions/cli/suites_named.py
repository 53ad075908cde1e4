"""The suite files that a person named, or those that are run where none is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.places import CHAINS, CIRCUITS, packaged_suites
from circuit_assertions.plugin.items import is_suite

__all__ = ["suites_named"]


def suites_named(given: Sequence[Path] | None) -> list[Path]:
    """The suite files of some files and folders, each once; of suites/, else the packaged ones, where none is given.

    Raises:
        CircuitAssertionsError: if a folder holds no suite.
    """
    if given is None:
        return _in_folder(Path("suites")) or _in_folder(packaged_suites())
    found: list[Path] = []
    for path in given:
        some = _in_folder(path) if path.is_dir() else [path]
        if not some:
            raise CircuitAssertionsError(f"there is no suite in {path}: give suite files, or a folder that holds some")
        found += some
    return list(dict.fromkeys(found))


def _in_folder(folder: Path) -> list[Path]:
    files = (file for file in sorted(folder.rglob("*.y*ml")) if file.parent.name not in (CIRCUITS, CHAINS))
    return [file for file in files if is_suite(file)]
