"""The cache of readings: what was read of a checkpoint, known by everything that a reading depends on.

That is: the files that the checkpoint is read from, the dtype, the device and the permissions with which it is opened,
the versions of this package and of the libraries that it measures with, the package's own code, and for a reading its
measure and operands, the settings of the task and the tokens of its prompts. Measures and tasks of other packages are
not kept, because their code may change unseen, and neither is anything of a checkpoint that runs code of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

import circuit_assertions
from circuit_assertions.checkpoints import Checkpoint, CheckpointError, Opening
from circuit_assertions.checkpoints.devices import device_called
from circuit_assertions.checkpoints.files_print import FilesPrint, print_of_files
from circuit_assertions.checkpoints.function import FunctionSettings
from circuit_assertions.engine import Limit, Opened
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.measures.operands import spelled_operands
from circuit_assertions.records.cache_folder import CacheFolder
from circuit_assertions.records.gathering import Kept, kept, taken
from circuit_assertions.request import Request
from circuit_assertions.results.base import versions
from circuit_assertions.shape import Shape
from circuit_assertions.tasks import PromptSet, Task
from circuit_assertions.tasks.kept_prompts import plain_prompts, prompts_from

__all__ = ["ReadingCache"]

_READING, _PROMPTS, _OPENED = "readings", "prompts", "checkpoints"
_OURS = f"{circuit_assertions.__name__}."


@dataclass
class ReadingCache:
    """The cache of one run; see `Cache`."""

    folder: CacheFolder
    _prints: dict[tuple[Checkpoint, Opening], FilesPrint | None] = field(default_factory=dict, repr=False)
    _devices: dict[str, str] = field(default_factory=dict, repr=False)

    def opened(self, checkpoint: Checkpoint, opening: Opening) -> Opened | None:
        """The facts of a checkpoint, which need not be opened for them."""
        key = self._key(checkpoint, opening)
        value = None if key is None else self.folder.read(_OPENED, key)
        try:
            return None if value is None else _opened_from(value, checkpoint)
        except (TypeError, KeyError, ValueError):
            return None

    def keep_opened(self, checkpoint: Checkpoint, opening: Opening, opened: Opened) -> None:
        """Keep the facts of a checkpoint that was just opened; nothing of one whose files were written meanwhile."""
        found = self._print(checkpoint, opening)
        if found is not None and not found.is_current():
            self._prints[(checkpoint, opening)] = None
        if (key := self._key(checkpoint, opening)) is not None:
            self.folder.write(_OPENED, key, _plain_opened(opened, checkpoint))

    def prompts(self, task: Task, checkpoint: Checkpoint, owner: Checkpoint, opening: Opening) -> PromptSet | None:
        """The prompts of a task, made with the tokenizer of `owner`, which reads them as that of the checkpoint."""
        key = self._key_of_prompts(task, checkpoint, owner, opening)
        value = None if key is None else self.folder.read(_PROMPTS, key)
        try:
            return None if value is None else prompts_from(value)
        except (TypeError, KeyError, ValueError):
            return None

    def keep_prompts(
        self, task: Task, checkpoint: Checkpoint, owner: Checkpoint, opening: Opening, prompts: PromptSet
    ) -> None:
        """Keep them, unless JSON would change their settings."""
        key = self._key_of_prompts(task, checkpoint, owner, opening)
        settings = dict(prompts.settings)
        if key is not None and json.loads(json.dumps(settings, default=str)) == settings:
            self.folder.write(_PROMPTS, key, plain_prompts(prompts))

    def reading(
        self, request: Request, names: tuple[str, ...], prompts: PromptSet, checkpoint: Checkpoint, opening: Opening
    ) -> Reading | None:
        """A reading of these components, of exactly these prompts; it may be of more components."""
        found = self._kept(request, prompts, checkpoint, opening)
        if found is None or not set(names) <= set(found.reading.components):
            return None
        try:
            return taken(found)
        except ValueError:
            return None

    def keep_reading(
        self, request: Request, reading: Reading, prompts: PromptSet, checkpoint: Checkpoint, opening: Opening
    ) -> None:
        """Keep a reading, with the further components of one that is kept."""
        key = self._key_of_reading(request, prompts, checkpoint, opening)
        if key is None:
            return
        known = self.reading(request, (), prompts, checkpoint, opening)
        made = kept("", reading if known is None else _joined(reading, known))
        if made is not None:
            self.folder.write(_READING, key, made.model_dump(mode="json"))

    def other(self, what: str, key: Mapping[str, Any], checkpoint: Checkpoint, opening: Opening) -> Any:
        """Something else that was read of a checkpoint, as JSON."""
        whole = self._key(checkpoint, opening, **{what: dict(key)})
        return None if whole is None else self.folder.read(_READING, whole)

    def keep_other(
        self, what: str, key: Mapping[str, Any], value: Any, checkpoint: Checkpoint, opening: Opening
    ) -> None:
        """Keep it."""
        if (whole := self._key(checkpoint, opening, **{what: dict(key)})) is not None:
            self.folder.write(_READING, whole, value)

    def _kept(self, request: Request, prompts: PromptSet, checkpoint: Checkpoint, opening: Opening) -> Kept | None:
        key = self._key_of_reading(request, prompts, checkpoint, opening)
        value = None if key is None else self.folder.read(_READING, key)
        try:
            return None if value is None else Kept.model_validate(value)
        except ValidationError:
            return None

    def _key_of_reading(
        self, request: Request, prompts: PromptSet, checkpoint: Checkpoint, opening: Opening
    ) -> dict[str, Any] | None:
        spec = MEASURES[request.measure]
        if not all(map(_is_ours, (spec.compute, spec.prepare, spec.finish, spec.beside, type(request.task)))):
            return None
        return self._key(
            checkpoint,
            opening,
            measure=request.measure,
            operands=spelled_operands(request.chosen),
            task=dict(prompts.settings),
            metric=request.task.answer_metric.name,
            token_hash=prompts.token_hash,
            hashes=_hash("".join(prompt.hash + prompt.template for prompt in prompts.prompts)),
        )

    def _key_of_prompts(
        self, task: Task, checkpoint: Checkpoint, owner: Checkpoint, opening: Opening
    ) -> dict[str, Any] | None:
        if not _is_ours(type(task)):
            return None
        from_owner = self._print(owner, opening)
        if from_owner is None:
            return None
        return self._key(checkpoint, opening, owner=from_owner.digest, task=json.loads(task.model_dump_json()))

    def _key(self, checkpoint: Checkpoint, opening: Opening, **more: Any) -> dict[str, Any] | None:
        """All that what is read of a checkpoint depends on; None where that cannot be said."""
        found = self._print(checkpoint, opening)
        if found is None:
            return None
        return {
            "files": found.digest,
            "dtype": opening.dtype,
            "device": self._device(opening.device),
            "permissions": asdict(opening.permissions),
            **self._made_by,
            **more,
        }

    def _print(self, checkpoint: Checkpoint, opening: Opening) -> FilesPrint | None:
        if (checkpoint, opening) not in self._prints:
            self._prints[(checkpoint, opening)] = None
            if not opening.permissions.remote_code:  # which may be anywhere
                with contextlib.suppress(CheckpointError):  # opening it tells the error
                    self._prints[(checkpoint, opening)] = print_of_files(checkpoint, opening)
        return self._prints[(checkpoint, opening)]

    @cached_property
    def _made_by(self) -> dict[str, Any]:
        return {"versions": versions(), "code": code_print()}

    def _device(self, wanted: str) -> str:
        if wanted not in self._devices:
            self._devices[wanted] = device_called(wanted)
        return self._devices[wanted]


@cache
def code_print() -> str:
    """A hash of this package's own code: a change of it need not change the version."""
    root = Path(circuit_assertions.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_ours(made: Any) -> bool:
    return str(made.__module__).startswith(_OURS)


def _joined(reading: Reading, known: Reading) -> Reading:
    """A reading with those components of another one that it lacks."""
    further = [component for component in known.components if component not in reading.components]
    if not (further and reading.components and reading.hashes == known.hashes):
        return reading
    values = np.concatenate([reading.values, known.only(further).values], axis=1)
    return replace(reading, values=values, components=(*reading.components, *further))


def _plain_opened(opened: Opened, checkpoint: Checkpoint) -> dict[str, Any]:
    """Facts as JSON. How the checkpoint was found is known anew each time."""
    plain = asdict(opened)
    plain["limits"] = {fact: [list(limit.facts), limit.reason] for fact, limit in opened.limits.items()}
    plain["notes"] = [note for note in opened.notes if note not in checkpoint.notes]
    return plain


def _opened_from(value: Mapping[str, Any], checkpoint: Checkpoint) -> Opened:
    found = Opened(**{**value, "shape": Shape(**value["shape"]), "function": FunctionSettings(**value["function"])})
    limits = {fact: Limit(tuple(facts), reason) for fact, (facts, reason) in value["limits"].items()}
    return replace(found, limits=limits, notes=(*checkpoint.notes, *value["notes"]))
