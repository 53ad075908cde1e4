"""From what the user typed to the checkpoints that it means.

A folder with weights is one checkpoint, and so is a GGUF file; a folder with `checkpoint-N/` folders is a training run,
and stands for all of them in step order; a folder with `adapter_config.json` is a PEFT adapter; anything else may be a
hub id, with an optional `@revision`.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.gguf.files import gguf_in, is_gguf, is_gguf_name, refuse_part, similar_gguf

__all__ = [
    "Checkpoint",
    "find_checkpoints",
    "is_step",
    "local_path",
    "read_json",
    "refuse_pointer",
    "similar_folder",
    "step_of",
]

_STEP = re.compile(r"checkpoint-(\d+)")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "model*.bin", "model*.pt", "model*.pth", "*.ckpt")
_MOST_NAMED = 8  # adapters in one message
_FINAL = "final"  # the weights in the root of a training run
_POINTER = b"version https://git-lfs.github.com/spec/"  # what Git LFS leaves where the file itself was not fetched


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights somewhere: exactly one of `folder` and `hub_id` is set. Two spellings of one folder are equal.

    Attributes:
        given: what the user typed, for messages and reports.
        folder: where the weights lie.
        file: the GGUF file in it that contains them; None where they are in the formats of Hugging Face.
        label: the name of this checkpoint within its training run, `checkpoint-40`; empty when it is alone.
        adapter: whether the folder holds a PEFT adapter that has to be merged into a base.
        notes: for the report: how it was found.
    """

    given: str
    folder: Path | None = None
    hub_id: str | None = None
    revision: str | None = None
    label: str = ""
    adapter: bool = False
    notes: tuple[str, ...] = ()
    file: Path | None = None

    @property
    def place(self) -> Path | None:
        """What is read: the GGUF file, else the folder; None for a hub id."""
        return self.file or self.folder

    @property
    def typed_folder(self) -> Path | None:
        """The folder that the user typed; None where it was a file in one, or a hub id."""
        return None if self.file is not None and self.file.name == Path(self.given).name else self.folder

    def __str__(self) -> str:
        return self.given if self.label in ("", _FINAL) else str(Path(self.given) / self.label)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and self._same == other._same

    def __hash__(self) -> int:
        return hash(self._same)

    @cached_property
    def _same(self) -> tuple[Path | str, str | None]:
        """What two equal checkpoints have in common. The steps of a run differ, wherever their links lead."""
        if self.folder is None:
            return self.hub_id or self.given, self.revision
        if self.label not in ("", _FINAL):
            step = self.folder.parent.resolve() / self.folder.name
            return (step / self.file.name if self.file is not None else step), None
        return (self.file or self.folder).resolve(), None


def find_checkpoints(given: str, *, start: Path | None = None) -> tuple[Checkpoint, ...]:
    """The checkpoints that `given` stands for: one, or a training run's in step order.

    Nothing is opened and nothing is fetched. Relative paths are taken from `start` (default: the working directory).

    Raises:
        CheckpointError: if nothing is there, or what is there holds no weights.
    """
    if not given.strip():
        raise CheckpointError("the model is an empty string: give a checkpoint folder or a hub id, --model=path/")
    start = start or Path.cwd()
    folder = start / local_path(given)
    try:
        if folder.is_dir():
            return _in_folder(given, folder)
        if is_gguf(folder):
            refuse_part(folder)
            return (Checkpoint(given, folder=folder.parent, file=folder),)
        if folder.exists():
            raise CheckpointError(
                f"{given} is a file: give the folder that holds config.json and the weights, or a GGUF file"
            )
        if _is_meant_as_path(given, folder, start) or not _HUB_ID.fullmatch(given):
            raise CheckpointError(f"no such path: {given}{_nearby(folder)}")
    except OSError as error:  # too long a name, or a folder that may not be read
        raise CheckpointError(f"{given:.200} cannot be read: {error.strerror}; give a checkpoint folder") from error
    hub_id, _, revision = given.partition("@")
    return (Checkpoint(given, hub_id=hub_id, revision=revision or None),)


def local_path(given: str) -> Path:
    """What the user typed as a path, `~` resolved where it can be."""
    try:
        return Path(given).expanduser()
    except RuntimeError:  # the home of nobody
        return Path(given)


def similar_folder(folder: Path, rest: Path = Path()) -> Path | None:
    """A folder beside where `folder` should be, whose name is close to its name, and that holds a checkpoint.

    Args:
        rest: where the checkpoint lies in it.
    """
    children = list(folder.parent.iterdir()) if folder.parent.is_dir() else []
    siblings = [child.name for child in children if child.is_dir() and _may_be_opened(child / rest)]
    close = difflib.get_close_matches(folder.name, siblings, n=1)
    return folder.parent / close[0] if close else None


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object from a checkpoint folder.

    Raises:
        CheckpointError: if the file cannot be read, or is not an object.
    """
    try:
        refuse_pointer(file)
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}; save the checkpoint again") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON: {error}; copy or save it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not a JSON object: save it again")
    return content


def refuse_pointer(file: Path) -> None:
    """Refuse what Git LFS left in a file's place.

    Raises:
        CheckpointError: if it is such a pointer.
        OSError: if it cannot be read.
    """
    with file.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise CheckpointError(f"{file} is a Git LFS pointer, and not the file itself: fetch it with `git lfs pull`")


def step_of(checkpoint: str) -> int | None:
    """The step of `run/checkpoint-40`; None for the weights in the root of a run."""
    match = _STEP.fullmatch(checkpoint.rsplit("/", 1)[-1])
    return int(match[1]) if match else None


def is_step(folder: Path) -> bool:
    """Whether a folder is called like a step of a training run."""
    return _STEP.fullmatch(folder.name) is not None


def _in_folder(given: str, folder: Path) -> tuple[Checkpoint, ...]:
    adapter, own_weights = _is_adapter(folder), _has_weights(folder)
    begun = sorted(
        (int(match[1]), child)
        for child in folder.iterdir()
        if (match := _STEP.fullmatch(child.name)) and child.is_dir() and any(child.iterdir())
    )
    steps = [child for _, child in begun if _is_written(child)]
    empty = [child.name for _, child in begun if child not in steps]
    notes = (f"skipped without weights: {', '.join(empty)}",) if empty else ()
    file = None if own_weights or adapter else gguf_in(folder, Path(given), several_allowed=bool(steps))
    if steps:
        run = [_step(given, child) for child in steps]
        if own_weights or adapter or file is not None:
            run.append(Checkpoint(given, folder=folder, label=_FINAL, adapter=adapter, file=file))
        return (*run[:-1], replace(run[-1], notes=notes))
    if adapter or file is not None:
        return (Checkpoint(given, folder=folder, adapter=adapter, notes=notes, file=file),)
    if not any(folder.iterdir()):
        raise CheckpointError(f"{given} is an empty folder: give one that holds config.json and *.safetensors")
    if not own_weights:
        raise CheckpointError(_no_weights(given, folder, empty))
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{given} holds weights but no config.json: save it with model.save_pretrained(...)")
    return (Checkpoint(given, folder=folder, notes=notes),)


def _step(given: str, folder: Path) -> Checkpoint:
    adapter = _is_adapter(folder)
    file = None if adapter or _has_weights(folder) else gguf_in(folder, Path(given) / folder.name)
    return Checkpoint(given, folder=folder, label=folder.name, adapter=adapter, file=file)


def _no_weights(given: str, folder: Path, empty: list[str]) -> str:
    """Why a folder is no checkpoint, with what was probably meant."""
    if empty:
        return f"no checkpoint of {given} can be opened: its steps hold no weights yet ({', '.join(empty)})"
    inside = [
        file.parent.relative_to(folder)
        for depth in ("*", "*/*")
        for file in folder.glob(f"{depth}/adapter_config.json")
        if _has_weights(file.parent)
    ]
    if inside:
        names = ", ".join(str(Path(given) / one) for one in sorted(inside)[:_MOST_NAMED])
        return f"{given} holds no adapter itself (did you mean one of the adapters in it: {names}?)"
    what = "a config but no weights" if (folder / "config.json").is_file() else "neither config.json nor weights"
    return (
        f"{given} holds {what}: give a folder with config.json and *.safetensors, a GGUF file, a PEFT adapter, "
        f"or a training run with checkpoint-N/ folders"
    )


def _has_weights(folder: Path) -> bool:
    return any(file.is_file() for pattern in _WEIGHTS for file in folder.glob(pattern))


def _is_written(step: Path) -> bool:
    """Whether a step's weights are there: shards alone are being written, until their index is."""
    names = ("model.safetensors", "model.safetensors.index.json", "adapter_config.json")
    return any((step / name).is_file() for name in names) or any(
        file.is_file() and (is_gguf_name(file.name) or any(file.match(pattern) for pattern in _WEIGHTS[1:]))
        for file in step.iterdir()
    )


def _may_be_opened(folder: Path) -> bool:
    try:
        return is_gguf(folder) or bool(_in_folder(str(folder), folder))
    except (CheckpointError, OSError, ValueError):  # the last of a name that no file can have
        return False


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def _is_meant_as_path(given: str, folder: Path, start: Path) -> bool:
    spelled_so = given.startswith((".", "/", "~", "\\")) or given.endswith("/") or given.count("/") > 1
    spelled_so = spelled_so or is_gguf_name(given)
    return spelled_so or "\\" in given or (folder.parent != start and folder.parent.is_dir())


def _nearby(folder: Path) -> str:
    file = similar_gguf(folder)
    if file is not None:
        return f" (did you mean {file}?)"
    here, rest = folder, Path()
    while not here.parent.is_dir() and here != here.parent:
        here, rest = here.parent, Path(here.name) / rest
    similar = similar_folder(here, rest)
    if similar:
        return f" (did you mean {similar / rest}?)"
    return f" ({here.parent} has no {here.name!r}; give a checkpoint folder, or a hub id such as gpt2)"
