"""What a machine does: how long a piece of work takes on it, the memory that it needs, and its rate of arithmetic."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["Machine", "Taken"]

_STATM = Path("/proc/self/statm")
_MB = 2**20
_SHORT = 2.0  # seconds; work that takes less may be done again


@dataclass(frozen=True)
class Taken:
    """What one piece of work took: seconds, MB beyond what was held before (None where unknown), and its result."""

    seconds: float
    peak_mb: float | None
    result: Tensor


@dataclass(frozen=True)
class Machine:
    """A device and its clock.

    On a CPU with one thread the clock is that thread's processor time, which does not run while others have the core;
    on an idle core a wall clock shows the same. Elsewhere it is a wall clock, and CUDA is waited for.

    Attributes:
        twice: whether short work is done twice, the better time counting.
    """

    device: torch.device
    twice: bool = True

    @property
    def clock(self) -> str:
        """What kind of seconds are counted."""
        return "processor time of the one thread" if self._alone else "wall clock"

    def now(self) -> float:
        """Seconds, once everything asked for is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.thread_time() if self._alone else time.perf_counter()

    def seconds(self, work: Callable[[], object]) -> float:
        """How long work takes."""
        taken = self._once(work)
        return min(taken, self._once(work)) if self.twice and taken < _SHORT else taken

    def take(self, work: Callable[[], Tensor]) -> Taken:
        """Time work and watch its memory."""
        with self._peak() as peak:
            start = self.now()
            result = work()
            seconds = self.now() - start
        if self.twice and seconds < _SHORT:
            seconds = min(seconds, self._once(work))
        return Taken(seconds, peak[0], result)

    def rate(self, width: int) -> float:
        """Multiply-adds a second of a float32 matrix product as large as an MLP's over 1024 rows; the best of some."""
        rows = torch.randn(1024, width, device=self.device)
        weights = torch.randn(width, 4 * width, device=self.device)
        rows @ weights
        best = min(self._once(lambda: rows @ weights) for _ in range(3))
        return 1024 * width * 4 * width / best

    def _once(self, work: Callable[[], object]) -> float:
        start = self.now()
        work()
        return self.now() - start

    @property
    def _alone(self) -> bool:
        return self.device.type == "cpu" and torch.get_num_threads() == 1

    @contextlib.contextmanager
    def _peak(self) -> Iterator[list[float | None]]:
        """The peak in MB beyond what is held now, known once the block is left."""
        result: list[float | None] = [None]
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            yield result
            result[0] = (torch.cuda.max_memory_allocated(self.device) - before) / _MB
        elif _STATM.exists():
            with _watched_memory(result):
                yield result
        else:
            yield result


@contextlib.contextmanager
def _watched_memory(result: list[float | None]) -> Iterator[None]:
    """Resident memory, looked at every few milliseconds."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it; elsewhere freed memory may hide a peak
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    done, before = threading.Event(), _resident()
    result[0] = 0.0

    def watch() -> None:
        while not done.wait(0.005):
            result[0] = max(result[0] or 0.0, (_resident() - before) / _MB)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _resident() -> int:
    return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
