"""Which device a model runs on, and how test workers share out the GPUs that the caller may see."""

from __future__ import annotations

import itertools
import os
from importlib.metadata import version
from typing import TYPE_CHECKING

from circuit_assertions.checkpoints.errors import DeviceError

if TYPE_CHECKING:
    import torch

__all__ = [
    "choose_device",
    "claim_share",
    "claim_worker_share",
    "device_called",
    "gpu_of_worker",
    "visible_gpus",
]

_CPU, _BUILT_FOR_CPU = "cpu", "+cpu"  # the latter ends the version of a torch that knows no other device


def gpu_of_worker(visible: str | None, present: int, worker: int) -> str | None:
    """The value of `CUDA_VISIBLE_DEVICES` for one test worker: one of the *caller's* GPUs, round robin.

    Args:
        visible: the caller's `CUDA_VISIBLE_DEVICES`; None if it is not set. What follows a `-1` is not visible.
        present: how many GPUs the machine has, used where `visible` is not set.
        worker: the worker's number, from 0.

    Returns:
        One entry of `visible` (an index, a UUID or a MIG name, as the caller wrote it), or None to leave it alone.
    """
    if visible is None:
        gpus = [str(index) for index in range(present)]
    else:
        named = (name.strip() for name in visible.split(","))
        gpus = [name for name in itertools.takewhile(lambda name: name != "-1", named) if name]
    return gpus[worker % len(gpus)] if gpus else None


def claim_worker_share() -> None:
    """In an xdist worker, restrict this process to its share of GPUs and cores. Must run before CUDA is initialised."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker.startswith("gw"):
        claim_share(int(worker.removeprefix("gw")), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def claim_share(worker: int, workers: int) -> None:
    """Restrict this process to a worker's share of GPUs and cores. Must run before CUDA is initialised.

    Args:
        worker: its number, from 0.
        workers: how many there are.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        # As many threads as cores in every worker would have them wait for each other.
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = torch.cuda.device_count() if visible is None else 0  # asks the driver, does not initialise CUDA
    share = gpu_of_worker(visible, present, worker)
    if share is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = share


def choose_device(wanted: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:1`, `mps` and the like; `auto` means CUDA, then MPS, then CPU.

    `all` means every CUDA device together; the first of them is where values are gathered.

    Raises:
        DeviceError: if the device does not exist, or torch does not know it.
    """
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if wanted == "all":
        gpus = visible_gpus()
        if not gpus:
            raise DeviceError(f"all means all CUDA devices, and this machine has none: use {_offered()}")
        return gpus[0]
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise DeviceError(f"{wanted!r} is not a device: use {_offered()}") from error
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= count):
        raise DeviceError(f"device {wanted} is not available: this machine has {count} CUDA devices; use auto or cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device mps is not available: use auto or cpu")
    if device.type not in {"cpu", "cuda", "mps"}:
        raise DeviceError(f"device {wanted} cannot be used here: use {_offered()}")
    return device


def visible_gpus() -> tuple[torch.device, ...]:
    """Every CUDA device that this process may see."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return tuple(torch.device("cuda", index) for index in range(count))


def device_called(wanted: str) -> str:
    """A device as what was read on it is known by: its name, of a GPU with its make.

    Torch is not imported where only a CPU can be meant.

    Raises:
        DeviceError: if the device does not exist.
    """
    if wanted == _CPU or (wanted == "auto" and version("torch").endswith(_BUILT_FOR_CPU)):
        return _CPU
    device = choose_device(wanted)
    if device.type != "cuda":
        return str(device)

    import torch

    return f"{device} {torch.cuda.get_device_name(device)}"


def _offered() -> str:
    """The devices of this machine, as a list for messages: `auto, cpu, cuda, cuda:0 or cuda:1`."""
    import torch

    gpus = visible_gpus()
    names = ["auto", "cpu", *["cuda", "all"][: 2 * len(gpus)], *map(str, gpus)]
    names += ["mps"] if torch.backends.mps.is_available() else []
    return f"{', '.join(names[:-1])} or {names[-1]}"
