"""Checkpoint folders to be spoilt: copies of a saved one with a changed configuration, header or tensor."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from circuit_assertions.checkpoints import CheckpointError, Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import OpenCheckpoint, open_checkpoint

WEIGHTS = "model.safetensors"
ON_CPU = Opening(device="cpu")


def opened(folder: Path | str, opening: Opening = ON_CPU) -> OpenCheckpoint:
    """The last checkpoint that this path stands for, in memory."""
    return open_checkpoint(find_checkpoints(str(folder))[-1], opening)


def refused(folder: Path | str, opening: Opening = ON_CPU, *, most: int = 700) -> str:
    """What a checkpoint is refused with: one line of fewer than `most` characters."""
    with pytest.raises(CheckpointError) as caught:
        opened(folder, opening)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < most
    return text


def copy_of(folder: Path, target: Path, *, without: str | None = None) -> Path:
    """A copy of a checkpoint folder, less one file."""
    shutil.copytree(folder, target)
    if without is not None:
        (target / without).unlink()
    return target


def change_json(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file; a value of None takes the key away."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def change_tensors(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Rewrite a safetensors file with its tensors changed in place."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def change_header(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite the header of a safetensors file and leave the bytes behind it as they are."""
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    new = json.dumps(header).encode()
    file.write_bytes(len(new).to_bytes(8, "little") + new + raw[8 + length :])


def hashes(folder: Path) -> dict[str, str]:
    """Every file of a folder with the hash of what it holds."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
