"""The suites and circuit files of the package, and the user's own files that are used with them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from circuit_assertions.assertions.circuits import Circuits
from circuit_assertions.assertions.loading import load_circuits
from circuit_assertions.places import CIRCUITS, packaged_suites, suite_folders

__all__ = ["circuits_beside", "packaged_suites"]


def circuits_beside(*suites: Path, own: Path = Path("suites")) -> Circuits:
    """The circuit files beside these suites (files, or folders of suites), then the user's own, then the packaged ones.

    One that is not valid is left out, with a note: it affects only suites that need it.

    Args:
        own: the folder whose `circuits/` `discover` writes into.
    """
    found = [load_circuits(folder / CIRCUITS) for folder in suite_folders(*suites, own=own)]
    return Circuits(chain.from_iterable(found), (unread for circuits in found for unread in circuits.unread))
