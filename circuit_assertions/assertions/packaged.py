"""What came with the package, the suites and their circuit files, and what a person's own files add to it."""

from __future__ import annotations

from pathlib import Path

from circuit_assertions.assertions.circuits import Circuit
from circuit_assertions.assertions.errors import SuiteError
from circuit_assertions.assertions.loading import load_circuits
from circuit_assertions.places import packaged_suites

__all__ = ["circuits_beside", "packaged_suites"]


def circuits_beside(*suites: Path, own: Path = Path("suites")) -> tuple[Circuit, ...]:
    """The circuit files beside these suites (files, or folders of suites), then a person's own, then the packaged ones.

    Args:
        own: the folder whose `circuits/` `discover` writes into. A file there that is not valid hides the others there.

    Raises:
        SuiteError: if one beside the suites, or a packaged one, is not valid.
    """
    beside = [suite.parent if suite.is_file() else suite for suite in suites]
    packaged = packaged_suites()
    folders: dict[Path, Path] = {}
    for folder in (*beside, own, packaged):
        folders.setdefault(folder.resolve(), folder)
    last = folders.pop(packaged.resolve())  # also where they are the suites
    found: list[Circuit] = []
    for folder in (*folders.values(), last):
        try:
            found += load_circuits(folder / "circuits")
        except SuiteError:
            if folder is not own:
                raise
    return tuple(found)
