"""How much memory a piece of work may take, and what happens where that much is not available.

No result depends on any of this: work is cut into pieces that fit, and a piece that does not is halved.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import torch

from circuit_assertions.engine.errors import MeasuringError

__all__ = ["VARIABLE", "Attempt", "budget", "free_memory", "in_pieces", "piece_of_rows"]

_Item = TypeVar("_Item")

VARIABLE = "CIRCUIT_ASSERTIONS_MEMORY"

# What a batch keeps, a piece of work, its results and the allocator's slack live side by side.
_SHARE = 4
# Beyond these sizes nothing gets faster.
_MOST = {"cpu": 512 << 20, "mps": 1 << 30, "cuda": 4 << 30}
# A processor does elementwise work several times faster while a piece stays in its caches.
_CACHED = {"cpu": 16 << 20}
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_UNKNOWN = 2 << 30  # bytes taken to be free where the system does not say


def budget(device: torch.device) -> int:
    """Bytes that one piece of work may take on a device: a quarter of what is free there, within reason.

    Raises:
        MeasuringError: if CIRCUIT_ASSERTIONS_MEMORY is set to something that is no amount of memory.
    """
    said = os.environ.get(VARIABLE)
    working = _amount(said) if said else free_memory(device)
    return max(1, min(working // _SHARE, _MOST.get(device.type, _MOST["cpu"])))


def piece_of_rows(device: torch.device, bytes_a_row: int) -> int:
    """How many independent rows go through an MLP, or become logits, together."""
    most = budget(device)
    return max(1, min(most, _CACHED.get(device.type, most)) // bytes_a_row)


@dataclass
class Attempt:
    """`with attempt:` do a piece of work. Running out of memory fails the attempt and leaves nothing behind.

    Raises:
        MeasuringError: if there is no memory even for one item.
    """

    items: int
    failed: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not _is_out_of_memory(error):
            return False
        if self.items == 1:
            raise MeasuringError(
                f"there is not enough memory to measure even piece by piece ({str(error).splitlines()[0]}): read fewer "
                f"or shorter prompts, keep less at once with {VARIABLE}=500MB, or use another --model-device"
            ) from error
        self.failed = True
        return True


def in_pieces(items: Sequence[_Item], size: int) -> Iterator[tuple[Sequence[_Item], Attempt]]:
    """`for some, fits in in_pieces(items, size): with fits: ...`: a piece that finds no memory comes again, halved.

    What stands in the `with` must change nothing before it has all that it needs, so that it can be done again.
    """
    start = 0
    while start < len(items):
        piece = items[start : start + size]
        attempt = Attempt(len(piece))
        yield piece, attempt
        if attempt.failed:
            size = len(piece) // 2
        else:
            start += len(piece)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device, as far as the system says."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return _free_on_processor(int(time.monotonic()))


@functools.lru_cache(maxsize=1)
def _free_on_processor(second: int) -> int:
    """The same for the processor, asked once a second: on small models, asking took a third of the time."""
    return max(0, min([_available(), *_left_in_groups()]))


def _amount(said: str) -> int:
    """Bytes of `2GB`, `500 MB`, `1.5GiB`."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B|[KMG]iB)\s*", said, re.IGNORECASE)
    amount = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if amount < 1:
        raise MeasuringError(f"{VARIABLE}={said} is not an amount of memory: write it as 500MB, 2GB or 1.5GiB")
    return amount


def _is_out_of_memory(error: BaseException | None) -> bool:
    # The processor's allocator has no exception of its own.
    of_processor = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return of_processor or isinstance(error, torch.OutOfMemoryError)


def _available() -> int:
    """What the operating system could hand out."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return _UNKNOWN


def _left_in_groups(proc: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """What the control groups of this process leave it, both versions; a parent's limit binds as well as its own."""
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, names = mounted, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = mounted / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            # Seen from inside a container its own group is the root, whatever the path says.
            if folder.is_relative_to(root):
                yield from _left(folder, *names)


def _left(folder: Path, limit: str, used: str, reclaimable: str) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError):  # no such group here, or `max`: no limit
        most = int((folder / limit).read_text(encoding="ascii"))
        taken = int((folder / used).read_text(encoding="ascii"))
        words = (folder / "memory.stat").read_text(encoding="ascii").split()
        spare = int(words[words.index(reclaimable) + 1]) if reclaimable in words else 0
        yield most - taken + spare
