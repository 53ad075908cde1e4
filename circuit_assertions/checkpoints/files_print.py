"""The fingerprint of everything on the disk that a checkpoint is read from, without opening it. No torch.

It is of whole files: weights, configuration, tokenizer, and of an adapter those of its base too. Files that change
nothing may be among them, so that two equal fingerprints mean the same model, and two different ones need not mean
different models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.fetching import base_of, fetch, is_adapter
from circuit_assertions.checkpoints.safety import weight_files
from circuit_assertions.checkpoints.settings import Opening
from circuit_assertions.checkpoints.sources import Checkpoint
from circuit_assertions.checkpoints.tokenizer_places import tokenizer_files, tokenizer_places

__all__ = ["FilesPrint", "print_of_files"]

_DESCRIBING = (".json", ".txt", ".model", ".jinja", ".py", ".tiktoken")
_OF_TRAINING = ("trainer_state.json",)  # which every step of a run has, and no model is read from

Seen = tuple[str, int, int]  # a file, its size and when it was written, in nanoseconds


@dataclass(frozen=True)
class FilesPrint:
    """A fingerprint, and what the files looked like when it was made.

    Attributes:
        digest: 64 hexadecimal digits.
    """

    digest: str
    files: tuple[Seen, ...]

    def is_current(self) -> bool:
        """Whether none of the files was written since."""
        try:
            return all(_seen(Path(file)) == (file, size, when) for file, size, when in self.files)
        except OSError:
            return False


def print_of_files(checkpoint: Checkpoint, opening: Opening) -> FilesPrint:
    """The fingerprint of what a checkpoint is read from when it is opened so.

    Raises:
        CheckpointError: if it has no weights, or a file cannot be read.
    """
    digest, seen = hashlib.sha256(), []
    known: dict[Path, str] = {}
    try:
        for role, file in _files(checkpoint, opening):
            seen.append(_seen(file))
            if file not in known:
                with file.open("rb") as stream:
                    known[file] = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{role}\0{file.name}\0{known[file]}\0".encode())
    except OSError as error:
        raise CheckpointError(f"{checkpoint} cannot be read: {error.strerror or error}; copy it again") from error
    return FilesPrint(digest.hexdigest(), tuple(dict.fromkeys(seen)))


def _files(checkpoint: Checkpoint, opening: Opening) -> Iterator[tuple[str, Path]]:
    """Every file that matters, each with what it is for."""
    place = fetch(checkpoint, opening.permissions)
    yield from _of_model("weights", place, opening)
    folder = place if place.is_dir() else place.parent
    if is_adapter(folder):
        yield from _of_model("base", base_of(folder, opening), opening)
    for number, candidate in enumerate(tokenizer_places(place, opening)):
        role = f"tokenizer {number}"
        if not candidate.is_dir():
            yield role, candidate
            continue
        yield from ((role, file) for file in _describing(candidate))
        if tokenizer_files(candidate):
            return


def _of_model(role: str, place: Path, opening: Opening) -> Iterator[tuple[str, Path]]:
    if not place.is_dir():
        yield role, place
        return
    for file in weight_files(place, opening.permissions, adapter=is_adapter(place)):
        yield role, file
    yield from ((role, file) for file in _describing(place))


def _describing(folder: Path) -> Iterator[Path]:
    """The files of a folder that say how its weights and texts are read, also in folders of chat templates."""
    for file in sorted((*folder.glob("*"), *folder.glob("*/*.jinja"))):
        if file.suffix in _DESCRIBING and file.name not in _OF_TRAINING and file.is_file():
            yield file


def _seen(file: Path) -> Seen:
    found = file.stat()
    return str(file), found.st_size, found.st_mtime_ns
