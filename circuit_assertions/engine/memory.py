"""How much memory a piece of work may take, and what happens where that much is not available.

No result depends on any of this: work is cut into pieces that fit, and a piece that does not is halved.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import torch

from circuit_assertions.checkpoints.free_memory import free_memory
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
