"""A sweep by processes of this machine, each with its share of the cores and of the GPUs that the caller may see."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

from circuit_assertions.sweeps.asked import Setting, Unit
from circuit_assertions.sweeps.auditing import Done, Shared, audit_unit, read_baseline
from circuit_assertions.sweeps.errors import SweepError

__all__ = ["ATTEMPTS", "LocalWorkers"]

ATTEMPTS = 3  # of a unit whose worker is lost, the first included


@dataclass(eq=False)
class _Slot:
    """One worker process. It is replaced when it is lost.

    Attributes:
        number: from 0, by which cores and GPUs are shared out.
        unit: what it does.
    """

    number: int
    of: int
    unit: Unit | None = None
    _pool: ProcessPoolExecutor | None = None

    @property
    def pool(self) -> ProcessPoolExecutor:
        """What its work is handed to."""
        if self._pool is None:
            # A forked process would inherit the threads' locks of torch and of a GPU's driver.
            spawning = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, spawning, initializer=_begin, initargs=(self.number, self.of))
        return self._pool

    def close(self) -> None:
        """End the process, without waiting for what it does."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


@dataclass
class LocalWorkers:
    """Processes of this machine, which stay until `close`.

    Attributes:
        jobs: how many.
        lost: how often a unit's worker was lost.
    """

    jobs: int
    lost: dict[Unit, int] = field(default_factory=dict)
    _slots: list[_Slot] = field(default_factory=list)
    _shared: tuple[Setting, tuple[tuple[Done, ...], Shared]] | None = None

    @property
    def called(self) -> str:
        """What works, in words."""
        return f"{self.jobs} local process{'es' if self.jobs > 1 else ''}"

    def run(self, setting: Setting, units: Sequence[Unit]) -> Iterator[Done]:
        """Judge units, and hand each out when it is done. A unit whose worker is lost is given to another.

        Raises:
            CircuitAssertionsError: if the baseline, the suites or the device cannot be used.
        """
        waiting, running = list(units), dict[Future[Done], _Slot]()
        self._slots += [_Slot(number, self.jobs) for number in range(len(self._slots), min(self.jobs, len(units)))]
        shared: Shared = ()
        if units:
            records, shared = self._of_baseline(setting)
            yield from records
        while waiting or running:
            for slot in self._slots:
                if waiting and slot not in running.values():
                    slot.unit = _next(waiting, slot.unit, [one.unit for one in running.values()])
                    running[slot.pool.submit(audit_unit, setting, shared, slot.unit)] = slot
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                done = self._done(future, running.pop(future), waiting)
                if done is not None:
                    yield done

    def close(self) -> None:
        """End the processes."""
        for slot in self._slots:
            slot.close()
        self._slots.clear()

    def _of_baseline(self, setting: Setting) -> tuple[tuple[Done, ...], Shared]:
        """The baseline's records and what is read from it, once for all units."""
        if self._shared is None or self._shared[0] != setting:
            self._shared = (setting, _retried(self._slots[0], setting))
        return self._shared[1]

    def _done(self, future: Future[Done], slot: _Slot, waiting: list[Unit]) -> Done | None:
        """What came of a unit; None where its worker was lost and another will try."""
        unit = slot.unit
        assert unit is not None
        try:
            return future.result()
        except BrokenExecutor:
            slot.close()
        self.lost[unit] = self.lost.get(unit, 0) + 1
        if self.lost[unit] < ATTEMPTS:
            waiting.insert(0, unit)
            return None
        return Done(
            unit, problem=f"its worker process was lost {ATTEMPTS} times: it may need more memory than there is"
        )


def _retried(slot: _Slot, setting: Setting) -> tuple[tuple[Done, ...], Shared]:
    for _ in range(ATTEMPTS):
        try:
            return slot.pool.submit(read_baseline, setting).result()
        except BrokenExecutor:
            slot.close()
    raise SweepError(
        f"the process that reads the baseline {setting.baseline} was lost {ATTEMPTS} times: it may need more memory "
        f"than there is"
    )


def _next(waiting: list[Unit], last: Unit | None, running: Sequence[Unit | None]) -> Unit:
    """Take out the unit that is done next: of the checkpoint that is open, else of one that no worker has open."""
    busy = {unit.checkpoint for unit in running if unit is not None}
    own = [unit for unit in waiting if last is not None and unit.checkpoint == last.checkpoint]
    free = [unit for unit in waiting if unit.checkpoint not in busy]
    chosen = next(iter([*own, *free, *waiting]))
    waiting.remove(chosen)
    return chosen


def _begin(number: int, of: int) -> None:
    """Take a worker's share of the machine, and end with the process that started it, however that ends."""
    from circuit_assertions.checkpoints.devices import claim_share

    threading.Thread(target=_end_with_parent, daemon=True).start()
    claim_share(number, of)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
