"""Which files are GGUF, and which one of them a folder means. Only names and four bytes are read."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from circuit_assertions.checkpoints.errors import CheckpointError

__all__ = ["MAGIC", "gguf_in", "is_gguf", "is_gguf_name", "refuse_part", "settings_called", "similar_gguf"]

MAGIC = b"GGUF"  # how every such file begins
_SUFFIX = ".gguf"
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)  # as llama-gguf-split names its output
_MOST_NAMED = 8  # files in one message


def is_gguf(place: Path) -> bool:
    """Whether a path is a GGUF file, by its name or, where a store gives it another, by its first bytes."""
    if not place.is_file() or is_gguf_name(place.name):
        return place.is_file()
    try:
        with place.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:  # not to be read, so nothing is known of it
        return False


def is_gguf_name(name: str) -> bool:
    return name.lower().endswith(_SUFFIX)


def gguf_in(folder: Path, called: Path | None = None, *, several_allowed: bool = False) -> Path | None:
    """The GGUF file of a folder; None where there is none.

    Args:
        called: the folder as the user typed it, for messages.
        several_allowed: whether several mean none of them, because something else in the folder was meant.

    Raises:
        CheckpointError: if it has several, or one part of a file that was split.
    """
    called = called or folder
    files = _gguf_files(folder)
    if several_allowed and len(files) > 1:
        return None
    for file in files:
        refuse_part(file)
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:_MOST_NAMED])
        more = f" and {len(files) - _MOST_NAMED} more" if len(files) > _MOST_NAMED else ""
        raise CheckpointError(
            f"{called} holds {len(files)} GGUF files ({names}{more}): give the one that you mean, such as "
            f"{called / files[0].name}"
        )
    return files[0] if files else None


def similar_gguf(file: Path) -> Path | None:
    """A GGUF file in the folder where `file` should be, whose name is close to its name."""
    if not is_gguf_name(file.name) or not file.parent.is_dir():
        return None
    close = difflib.get_close_matches(file.name, [one.name for one in _gguf_files(file.parent)], n=1)
    return file.parent / close[0] if close else None


def _gguf_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if is_gguf_name(file.name) and file.is_file())


def refuse_part(file: Path, parts: int = 1) -> None:
    """Refuse one part of a model that was split over several files.

    Args:
        parts: how many there are, as the file itself says.

    Raises:
        CheckpointError: with what merges them.
    """
    match = _PART.search(file.name)
    count = max(parts, int(match[2]) if match else 1)
    if count > 1:
        raise CheckpointError(
            f"{file} is one of {count} parts of a GGUF file, which are not read apart: merge them with the "
            f"llama-gguf-split of llama.cpp, and give the whole file"
        )


def settings_called(place: Path) -> tuple[str, str]:
    """How messages call what contains a checkpoint's settings: by its path, and as the checkpoint's own."""
    return (str(place), "its metadata") if place.is_file() else (str(place / "config.json"), "its config.json")
