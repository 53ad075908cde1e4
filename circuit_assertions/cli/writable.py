"""Whether a file can be written is said before any work: an hour's search must not end at a closed door."""

from __future__ import annotations

import os
from pathlib import Path

from circuit_assertions import CircuitAssertionsError

__all__ = ["check_writable"]


def check_writable(output: Path, example: str = "") -> None:
    """Check that a file can be written, with its folders, which are created if they do not exist.

    Args:
        example: a name for it in a folder, for those who gave the folder alone.

    Raises:
        CircuitAssertionsError: if it is a folder, or it or the nearest existing folder cannot be written to.
    """
    try:
        _check(output, example)
    except OSError as error:  # too long a name, or a folder that may not be looked into
        raise CircuitAssertionsError(f"{output} cannot be written: {error.strerror}; give -o FILE") from error


def _check(output: Path, example: str) -> None:
    if output.is_dir():
        way_out = f"a file, as in -o {output / example}" if example else "another -o FILE"
        raise CircuitAssertionsError(f"{output} is a folder: give {way_out}")
    nearest = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    folder = nearest.resolve().parent  # a new file is put in the place of the old one
    for needed in (nearest, folder) if nearest.is_file() else (nearest,):
        if not os.access(needed, os.W_OK):
            raise CircuitAssertionsError(f"{needed} cannot be written to: give -o FILE")
    if nearest != output.absolute() and not nearest.is_dir():
        raise CircuitAssertionsError(f"{output} cannot be written: {nearest} is not a folder; give -o FILE")
