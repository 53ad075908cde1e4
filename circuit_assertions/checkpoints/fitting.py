"""Whether a model fits into memory is said before it is read, with the dtype that would fit."""

from __future__ import annotations

from pathlib import Path

import torch

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.free_memory import amount_text, free_memory
from circuit_assertions.checkpoints.settings import Opening
from circuit_assertions.checkpoints.spreading import FULLEST, devices_for

__all__ = ["DTYPES", "refuse_unfit", "way_to_fit"]

DTYPES = ("float64", "float32", "bfloat16")  # the widest first; float16 is as wide as bfloat16


def refuse_unfit(place: Path, numbers: int, opening: Opening) -> None:
    """Check that a model's weights are not larger than the memory that is free, here and on its device.

    Args:
        numbers: how many weights it has.

    Raises:
        CheckpointError: with the dtype that would fit.
        DeviceError: if there is no such device.
    """
    needed = numbers * _width(opening.dtype)
    devices = devices_for(needed, opening.device)
    called = ", ".join(map(str, devices))
    share = FULLEST if len(devices) > 1 else 1.0
    # It is read into this machine's memory first, also where it then goes to other devices.
    rooms = {"cpu": free_memory(torch.device("cpu")), called: sum(int(share * free_memory(one)) for one in devices)}
    for name, free in rooms.items():
        if needed > free:
            raise CheckpointError(
                f"{place} needs {amount_text(needed)} as {opening.dtype}, and {name} has {amount_text(free)} of free "
                f"memory: {way_to_fit(numbers, free)}"
            )


def way_to_fit(numbers: int, free: int, share: float = 1.0) -> str:
    """The setting with which a model fits, for the end of a message.

    Args:
        share: of the free memory that weights may take.
    """
    for dtype in DTYPES:
        needed = numbers * _width(dtype)
        if needed <= free * share:
            return f"give --model-dtype={dtype}, which needs {amount_text(needed)}"
    return f"it needs {amount_text(numbers * _width(DTYPES[-1]))} even as {DTYPES[-1]}; use a machine with more memory"


def _width(dtype: str) -> int:
    return int(getattr(torch, dtype).itemsize)
