"""How much memory is free: on a device, and for this process, whose control groups may leave it less."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch

__all__ = ["amount_text", "free_memory", "left_in_groups"]

_UNKNOWN = 2 << 30  # bytes taken to be free where the system does not say


def amount_text(size: float) -> str:
    """`28.0 GB`, `531 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


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
    return max(0, min([_available(), *left_in_groups()]))


def _available() -> int:
    """What the operating system could hand out."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return _UNKNOWN


def left_in_groups(proc: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
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
