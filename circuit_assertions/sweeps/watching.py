"""Audit checkpoints as a training run writes them. One that is half written waits."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from circuit_assertions.checkpoints import Checkpoint, CheckpointError, find_checkpoints
from circuit_assertions.results.sweep import SweptCheckpoint
from circuit_assertions.sweeps.asked import Found
from circuit_assertions.sweeps.errors import SweepError
from circuit_assertions.sweeps.running import Sweep

__all__ = ["CHECKPOINT", "RESULTS", "Watch", "is_whole", "run_on_fail"]

CHECKPOINT, RESULTS = "CIRCUIT_ASSERTIONS_CHECKPOINT", "CIRCUIT_ASSERTIONS_RESULTS"  # in the command's environment
_HEADER = 8  # bytes of a safetensors file that say how long its header is
_LONGEST_HEADER = 100_000_000


@dataclass
class Watch:
    """A folder that a training run writes checkpoints into.

    Attributes:
        every: seconds between two looks.
        stop_after: seconds without a new checkpoint after which it ends; None: never.
        failed: told of a checkpoint whose gate fails.
        waits: told once of a checkpoint that is not whole yet.
    """

    folder: str
    sweep: Sweep
    every: float = 10.0
    stop_after: float | None = None
    failed: Callable[[SweptCheckpoint], None] = lambda one: None
    waits: Callable[[str], None] = lambda name: None
    changed: Callable[[], None] = lambda: None
    _seen: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def run(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Audit what comes, until nothing has come for `stop_after` seconds, or Ctrl-C.

        Raises:
            SweepError, CircuitAssertionsError: as a sweep's.
        """
        if not Path(self.folder).is_dir():
            raise SweepError(f"{self.folder} is not a folder: give the one that the training run writes into")
        quiet_since = time.monotonic()
        while True:
            new = self._ready()
            for one in new:
                self.sweep.found = (*self.sweep.found, one)
                self.sweep.audit([one])
                done = self.sweep.swept[one.name]
                self.changed()
                if not done.passed:
                    self.failed(done)
            now = time.monotonic()
            quiet_since = now if new else quiet_since
            if self.stop_after is not None and now - quiet_since >= self.stop_after:
                return
            sleep(self.every)

    def _ready(self) -> list[Found]:
        """The checkpoints that are whole, have not changed since the last look, and were not audited yet."""
        try:
            there = find_checkpoints(self.folder)
        except CheckpointError:
            return []  # as long as there is none
        ready = []
        for one in there:
            name = str(one)
            if name in self.sweep.swept:
                continue
            stamp = _stamp(one)
            if self._seen.get(name) == stamp and is_whole(one):
                ready.append(Found(name, one))
            elif self._seen.get(name) == stamp or name not in self._seen:
                self.waits(name)
            self._seen[name] = stamp
        return ready


def is_whole(checkpoint: Checkpoint) -> bool:
    """Whether every file that a checkpoint needs is there as long as it says itself."""
    place = checkpoint.place
    if place is None or place.is_file():
        return True
    try:
        for name in ("config.json", "adapter_config.json"):
            if (place / name).is_file():
                json.loads((place / name).read_text(encoding="utf-8"))
        index = place / "model.safetensors.index.json"
        if index.is_file():
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            if not all((place / shard).is_file() for shard in shards):
                return False
        return all(_is_whole_file(file) for file in place.glob("*.safetensors"))
    except (OSError, ValueError, KeyError):
        return False


def _is_whole_file(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_HEADER), "little")
        if not 0 < length <= min(size, _LONGEST_HEADER):
            return False
        header = json.loads(stream.read(length))
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    return bool(size >= _HEADER + length + max(ends, default=0))


def _stamp(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Names, sizes and times of a checkpoint's files."""
    place = checkpoint.place
    assert place is not None
    told = []
    for file in sorted(place.iterdir()) if place.is_dir() else [place]:
        try:
            facts = file.stat()
        except OSError:  # removed meanwhile
            continue
        told.append(f"{file.name} {facts.st_size} {facts.st_mtime_ns}")
    return tuple(told)


def run_on_fail(command: Sequence[str], one: SweptCheckpoint) -> str:
    """Run the command of `--on-fail` for a checkpoint, without a shell. Returns what went wrong; empty if nothing did.

    Its environment has the checkpoint's name and its result files, separated as in PATH.
    """
    more = {CHECKPOINT: one.checkpoint, RESULTS: os.pathsep.join(one.files)}
    try:
        code = subprocess.run(list(command), env=os.environ | more, check=False).returncode
    except OSError as error:
        return f"the command of --on-fail could not be started: {command[0]}: {error.strerror}"
    return f"the command of --on-fail ended with exit code {code}: {command[0]}" if code else ""
