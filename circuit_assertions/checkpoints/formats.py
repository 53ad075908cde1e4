"""Read a checkpoint's weights in whichever format they are stored: a Hugging Face folder, or a GGUF file."""

from __future__ import annotations

from pathlib import Path

from circuit_assertions.checkpoints.gguf.header import read_gguf_header
from circuit_assertions.checkpoints.reading import Read, read_model
from circuit_assertions.checkpoints.settings import Opening

__all__ = ["read_weights"]


def read_weights(place: Path, opening: Opening) -> Read:
    """Read the weights of a folder or of a GGUF file.

    Raises:
        CheckpointError: if they are not whole, not numbers, or not those of the model that is described with them.
    """
    if place.is_dir():
        return read_model(place, opening)
    header = read_gguf_header(place)  # with a clear word where the package gguf cannot be imported
    from circuit_assertions.checkpoints.gguf.reading import read_gguf

    return read_gguf(header, opening)
