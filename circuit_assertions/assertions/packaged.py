"""The suites and circuit files of the package, and the user's own files that are used with them."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

from circuit_assertions.assertions.circuits import Circuits
from circuit_assertions.assertions.loading import load_circuits
from circuit_assertions.assertions.yaml_source import MOST_BYTES
from circuit_assertions.places import CIRCUITS, packaged_suites, suite_folders

__all__ = ["circuits_beside", "only_by_name", "packaged_suites", "usual_suites"]

_BY_NAME = re.compile(rb"""^(by-name|"by-name"|'by-name')\s*:\s*true\b""", re.MULTILINE)


def only_by_name(suite: Path) -> bool:
    """Whether a suite says that it is run only where its file is named (`by-name: true` at its top level)."""
    try:
        with suite.open("rb") as stream:
            return bool(_BY_NAME.search(stream.read(MOST_BYTES)))
    except OSError:
        return False  # who loads it says what is wrong


def usual_suites() -> tuple[Path, ...]:
    """The packaged suites that are run where no suite is named."""
    return tuple(file for file in sorted(packaged_suites().glob("*.yaml")) if not only_by_name(file))


def circuits_beside(*suites: Path, own: Path = Path("suites")) -> Circuits:
    """The circuit files beside these suites (files, or folders of suites), then the user's own, then the packaged ones.

    One that is not valid is left out, with a note: it affects only suites that need it.

    Args:
        own: the folder whose `circuits/` `discover` writes into.
    """
    found = [load_circuits(folder / CIRCUITS) for folder in suite_folders(*suites, own=own)]
    return Circuits(chain.from_iterable(found), (unread for circuits in found for unread in circuits.unread))
