"""Read all files of a folder, each of which may be one that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from circuit_assertions.assertions.circuits import Unread
from circuit_assertions.assertions.errors import SuiteError
from circuit_assertions.assertions.yaml_source import read_source
from circuit_assertions.printable import printable

__all__ = ["read_folder"]

_Loaded = TypeVar("_Loaded")


def read_folder(folder: Path, load: Callable[[Path], _Loaded], key: str) -> tuple[list[_Loaded], list[Unread]]:
    """What the YAML files of a folder hold, in the order of their names; nothing if there is no such folder.

    Args:
        key: under which such a file says its name.
    """
    read: list[_Loaded] = []
    unread: list[Unread] = []
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            read.append(load(file))
        except SuiteError as error:
            reason = str(error.args[0]).removeprefix(f"{printable(str(file))}:").strip()
            more = f" (and {len(error.args) - 1} more)" if len(error.args) > 1 else ""
            unread.append(Unread(file, _name_in(file, key), f"{reason}{more}"))
    return read, unread


def _name_in(file: Path, key: str) -> str | None:
    """What a file that is not valid calls itself, where it can be read so far."""
    try:
        values = read_source(file).values
    except SuiteError:
        return None
    name = values.get(key) if isinstance(values, dict) else None
    return name if isinstance(name, str) and name else None
