"""What came with the package, the suites and their circuit files, and what a person's own files add to it."""

from __future__ import annotations

from pathlib import Path

import circuit_assertions
from circuit_assertions.assertions.circuits import Circuit
from circuit_assertions.assertions.loading import load_circuits

__all__ = ["circuits_beside", "packaged_suites"]


def packaged_suites() -> Path:
    """The folder of the suites: inside the package once installed, at the top level in a checkout of the project."""
    package = Path(circuit_assertions.__file__).parent
    installed = package / "suites"
    return installed if installed.is_dir() else package.parent / "suites"


def circuits_beside(*suites: Path) -> tuple[Circuit, ...]:
    """The circuit files in `circuits/` beside these suites (files, or folders of suites), then others.

    The others are those in the working folder's `suites/circuits/`, where `discover` writes, and the packaged ones.

    Raises:
        SuiteError: if one of them is not valid.
    """
    beside = [suite.parent if suite.is_file() else suite for suite in suites]
    folders: dict[Path, Path] = {}
    for folder in (*beside, Path("suites"), packaged_suites()):
        folders.setdefault(folder.resolve(), folder)
    return tuple(circuit for folder in folders.values() for circuit in load_circuits(folder / "circuits"))
