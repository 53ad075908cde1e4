"""The settings that a calibration varies, and those that this machine does not have."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from circuit_assertions.results.calibration import Kind, SettingUsed

__all__ = ["DTYPES", "ORDERS", "Variation", "variations"]

DTYPES = ("float64", "float32", "bfloat16", "float16")
ORDERS = ("reversed", "shuffled")


@dataclass(frozen=True)
class Variation:
    """One setting that differs from the reference.

    Attributes:
        used: how it computes; None if the machine cannot do it.
        device: as `Opening` takes it, `cuda:0`.
        reason: why the machine cannot do it, or why it would be the reference again.
    """

    kind: Kind
    name: str
    used: SettingUsed | None
    device: str = ""
    reason: str = ""

    @property
    def opens(self) -> bool:
        """Whether the model has to be opened again for it."""
        return self.kind in ("dtype", "device")


def variations(reference: SettingUsed, device: torch.device, prompts: int) -> Iterator[Variation]:
    """Every setting that is compared with the reference, in the order in which they are listed.

    Args:
        device: the reference's.
        prompts: how many prompts each task has.
    """

    def with_(**changes: object) -> SettingUsed:
        return SettingUsed.model_validate({**reference.model_dump(), **changes})

    some = max(2, math.isqrt(prompts))
    for name, batch in (("1", 1), (str(some), some), ("all", None)):
        yield Variation("batch", name, with_(batch=batch))
    for order in ORDERS:
        yield Variation("order", order, with_(order=order))
    for threads in dict.fromkeys((1, 2, _cores())):
        if threads == reference.threads:
            yield Variation("threads", str(threads), None, reason="the reference has as many")
        else:
            yield Variation("threads", str(threads), with_(threads=threads))
    for dtype in DTYPES:
        if dtype != reference.dtype:
            yield Variation("dtype", dtype, with_(dtype=dtype), _named(device))
    yield from _devices(_named(device), with_)


def _devices(device: str, with_: Callable[..., SettingUsed]) -> Iterator[Variation]:
    present = ["cpu", *_cuda(), *(["mps"] if torch.backends.mps.is_available() else [])]
    for other in present:
        if other != device:
            for dtype in DTYPES:
                used = with_(dtype=dtype, device=torch.device(other).type)
                yield Variation("device", f"{other} {dtype}", used, other)
    if not _cuda():
        yield Variation("device", "cuda", None, reason="torch finds no CUDA device on this machine")
    if "mps" not in present:
        yield Variation("device", "mps", None, reason="torch finds no MPS device on this machine")


def _named(device: torch.device) -> str:
    """A device by its number, where there may be several of its type."""
    index = torch.cuda.current_device() if device.type == "cuda" and device.index is None else device.index
    return device.type if index is None or device.type != "cuda" else f"cuda:{index}"


def _cuda() -> list[str]:
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
