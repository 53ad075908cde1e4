"""A sweep on a Ray cluster: an existing one, else one that is started on this machine.

One task for each checkpoint and suite; GPUs by Ray's own resources. The baseline's records and readings are in the
object store once, where the task that made them left them. A task whose worker is lost is given to another by Ray
itself. https://docs.ray.io
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.sweeps.asked import Setting, Unit
from circuit_assertions.sweeps.auditing import Done, audit_unit, read_baseline
from circuit_assertions.sweeps.errors import SweepError

__all__ = ["RayWorkers"]

_RETRIES = 3  # of a task whose worker or node is lost
_AHEAD = 2  # tasks that wait for each one that runs, so that a worker has the next at once


@dataclass
class RayWorkers:
    """The workers of a Ray cluster.

    Attributes:
        jobs: how many tasks run at a time on a cluster that is started here; None for as many as there are cores.
        address: of a cluster; None for the one of this machine or of RAY_ADDRESS, else for starting one.
    """

    jobs: int | None = None
    address: str | None = None
    called: str = "Ray"
    _ray: Any = None
    _started: bool = False
    _baseline: tuple[Setting, Any, Any] | None = None  # its records and its readings, in the object store

    def run(self, setting: Setting, units: Sequence[Unit]) -> Iterator[Done]:
        """Judge units, and hand each out when it is done.

        Raises:
            SweepError: if Ray is not installed, or there is no cluster at the address.
            CircuitAssertionsError: if the baseline, the suites or the device cannot be used.
        """
        if self._ray is None:
            self._ray = _imported()
            self._started = self._connect(self._ray)
        if units:
            yield from self._run(self._ray, setting, units)

    def close(self) -> None:
        """End the connection, and the cluster if it was started for this sweep."""
        if self._ray is not None and self._started:
            self._ray.shutdown()

    def _connect(self, ray: Any) -> bool:
        """Connect to a cluster, or start one. Returns whether this has to end the connection."""
        if ray.is_initialized():
            self.called = "the Ray cluster of this process"
            return False
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            ray.init(address=self.address or "auto", **quiet)
            self.called = f"the Ray cluster at {ray.get_runtime_context().gcs_address}"
        except ConnectionError as error:
            if self.address is not None or "RAY_ADDRESS" in os.environ:
                where = self.address or os.environ["RAY_ADDRESS"]
                raise SweepError(
                    f"there is no Ray cluster at {where}: start one with `ray start --head`, or leave the address out"
                ) from error
            ray.init(num_cpus=self.jobs, include_dashboard=False, **quiet)
            self.called = "a Ray cluster of this machine, started for this sweep"
        return True

    def _run(self, ray: Any, setting: Setting, units: Sequence[Unit]) -> Iterator[Done]:
        has_gpus = ray.cluster_resources().get("GPU", 0) > 0 and setting.opening.device != "cpu"
        needs = {"num_cpus": 1, "num_gpus": 1 if has_gpus else 0, "max_retries": _RETRIES}
        audit = ray.remote(**needs)(audit_unit)
        if self._baseline is None or self._baseline[0] != setting:
            reading = ray.remote(num_returns=2, **needs)(read_baseline)
            self._baseline = (setting, *reading.remote(setting))
        _, records, shared = self._baseline
        ahead = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting, running = list(units), dict[Any, Unit]()
        try:
            yield from _got(ray, records)
            while waiting or running:
                while waiting and len(running) < ahead:
                    unit = waiting.pop(0)
                    running[audit.remote(setting, shared, unit)] = unit
                finished, _ = ray.wait(list(running), num_returns=1)
                for reference in finished:
                    yield self._done(ray, reference, running.pop(reference))
        finally:
            for reference in running:
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)

    @staticmethod
    def _done(ray: Any, reference: Any, unit: Unit) -> Done:
        try:
            done: Done = _got(ray, reference)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError):
            return Done(
                unit, problem=f"its worker was lost {_RETRIES + 1} times: it may need more memory than there is"
            )
        return done


def _got(ray: Any, reference: Any) -> Any:
    """What a task returned.

    Raises:
        CircuitAssertionsError: what the task raised of ours.
        SweepError: where it failed otherwise.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, CircuitAssertionsError):
            raise cause from None
        raise SweepError(f"a task failed on Ray: {str(cause or error).strip().splitlines()[-1]}") from error


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise SweepError(
            "Ray is not installed: install it with `pip install 'circuit-assertions[ray]'`, or leave out --engine ray"
        ) from error
    return ray
