"""From what the user typed to the checkpoints that it means.

A folder with weights is one checkpoint; a folder with `checkpoint-N/` folders is a training run, and stands for all of
them in step order; a folder with `adapter_config.json` is a PEFT adapter; anything else may be a hub id, with an
optional `@revision`.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circuit_assertions.checkpoints.errors import CheckpointError

__all__ = ["Checkpoint", "find_checkpoints", "read_json"]

_STEP = re.compile(r"checkpoint-(\d+)")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "model*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """Weights somewhere: exactly one of `folder` and `hub_id` is set.

    Attributes:
        given: what the user typed, for messages and reports.
        label: what tells this checkpoint from its siblings in a training run, `checkpoint-40`; empty when it is alone.
        adapter: whether the folder holds a PEFT adapter that has to be merged into a base.
    """

    given: str
    folder: Path | None = None
    hub_id: str | None = None
    revision: str | None = None
    label: str = ""
    adapter: bool = False

    def __str__(self) -> str:
        if self.folder is None or not self.label:
            return self.given
        return str(Path(self.given) / self.label) if self.folder.name == self.label else self.given


def find_checkpoints(given: str, *, start: Path | None = None) -> tuple[Checkpoint, ...]:
    """The checkpoints that `given` stands for: one, or a training run's in step order.

    Nothing is opened and nothing is fetched. Relative paths are taken from `start` (default: the working directory).

    Raises:
        CheckpointError: if nothing is there, or what is there holds no weights.
    """
    if not given.strip():
        raise CheckpointError("the model is an empty string: give a checkpoint folder or a hub id, --model=path/")
    folder = (start or Path.cwd()) / Path(given).expanduser()
    if folder.is_dir():
        return _in_folder(given, folder)
    if folder.exists():
        raise CheckpointError(f"{given} is a file: give the folder that holds config.json and the weights")
    if _is_meant_as_path(given, folder) or not _HUB_ID.fullmatch(given):
        raise CheckpointError(f"no such path: {given}{_nearby(folder)}")
    hub_id, _, revision = given.partition("@")
    return (Checkpoint(given, hub_id=hub_id, revision=revision or None),)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object from a checkpoint folder.

    Raises:
        CheckpointError: if the file cannot be read, or is not an object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not a JSON object")
    return content


def _in_folder(given: str, folder: Path) -> tuple[Checkpoint, ...]:
    if (folder / "adapter_config.json").is_file():
        return (Checkpoint(given, folder=folder, adapter=True),)
    steps = sorted(
        (int(match[1]), child)
        for child in folder.iterdir()
        if (match := _STEP.fullmatch(child.name)) and child.is_dir() and any(child.iterdir())
    )
    own_weights = any(any(folder.glob(pattern)) for pattern in _WEIGHTS)
    if steps:
        run = tuple(_step(given, child) for _, child in steps)
        last = (Checkpoint(given, folder=folder, label="final"),) if own_weights else ()
        return run + last
    if not any(folder.iterdir()):
        raise CheckpointError(f"{given} is an empty folder: give one that holds config.json and *.safetensors")
    if not own_weights:
        what = "a config but no weights" if (folder / "config.json").is_file() else "neither config.json nor weights"
        raise CheckpointError(
            f"{given} holds {what}: give a folder with config.json and *.safetensors, a PEFT adapter, "
            f"or a training run with checkpoint-N/ folders"
        )
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{given} holds weights but no config.json: save it with model.save_pretrained(...)")
    return (Checkpoint(given, folder=folder),)


def _step(given: str, folder: Path) -> Checkpoint:
    return Checkpoint(given, folder=folder, label=folder.name, adapter=(folder / "adapter_config.json").is_file())


def _is_meant_as_path(given: str, folder: Path) -> bool:
    spelled_so = given.startswith((".", "/", "~", "\\")) or given.endswith("/") or given.count("/") > 1
    return spelled_so or "\\" in given or (folder.parent != Path.cwd() and folder.parent.is_dir())


def _nearby(folder: Path) -> str:
    here = folder
    while not here.parent.is_dir() and here != here.parent:
        here = here.parent
    siblings = [child.name for child in here.parent.iterdir() if child.is_dir()] if here.parent.is_dir() else []
    close = difflib.get_close_matches(here.name, siblings, n=1)
    if close:
        return f" (did you mean {here.parent / close[0]}?)"
    return f" ({here.parent} has no {here.name!r}; give a checkpoint folder, or a hub id such as gpt2)"
