"""Where the tokenizer of a checkpoint may be. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from circuit_assertions.checkpoints.fetching import base_of, fetch, is_adapter
from circuit_assertions.checkpoints.gguf.files import gguf_in
from circuit_assertions.checkpoints.settings import Opening
from circuit_assertions.checkpoints.sources import find_checkpoints, is_step, local_path

__all__ = ["tokenizer_files", "tokenizer_places"]

_NAMES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a folder that contain a vocabulary; none where it has no tokenizer."""
    return [folder / name for name in _NAMES if (folder / name).is_file()]


def tokenizer_places(place: Path, opening: Opening) -> Iterator[Path]:
    """Where a tokenizer may be, folders and GGUF files, the best first. Lazily: what is not needed is not fetched."""
    if opening.tokenizer:
        chosen = local_path(opening.tokenizer)
        if not chosen.is_dir():
            yield fetch(find_checkpoints(opening.tokenizer)[0], opening.permissions)
            return
        yield chosen
        file = gguf_in(chosen)
        if file is not None:
            yield file
        return
    yield place
    folder = place if place.is_dir() else place.parent
    if folder != place:
        yield folder
    if is_step(folder):
        yield folder.parent
    if is_adapter(folder):
        yield base_of(folder, opening)
    if opening.base is not None:
        base = fetch(opening.base, opening.permissions)
        yield base
        if is_adapter(base):
            yield base_of(base, opening)
