"""How fast this machine is, in at most two seconds: matrix products, small operations, and moving memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["MOST_SECONDS", "Rates", "probe"]

MOST_SECONDS = 2.0
_WIDEST = 1024  # of the matrices: what is wider runs at the same rate
_ROWS = 256
_SMALL = 32
_MOVED = 4 << 20  # numbers
_TOGETHER = 16  # calls between two looks at the clock


@dataclass(frozen=True)
class Rates:
    """What was measured on a device.

    Attributes:
        flops: floating-point operations a second, in matrix products as wide as the model's.
        call: seconds that a small operation takes, whatever it computes.
        moved: bytes a second that elementwise operations read and write.
        seconds: how long the probe took.
    """

    flops: float
    call: float
    moved: float
    seconds: float


def probe(d_model: int, device: torch.device, dtype: torch.dtype) -> Rates:
    """Measure a device's rates, a third of the time each."""
    began, share = time.perf_counter(), MOST_SECONDS / 6
    width = min(d_model, _WIDEST)
    with torch.no_grad():
        rows = torch.ones(_ROWS, width, device=device, dtype=dtype)
        weights = torch.ones(width, 4 * width, device=device, dtype=dtype)
        product = _seconds(lambda: rows @ weights, device, share)
        small = torch.ones(_SMALL, device=device, dtype=dtype)
        call = _seconds(lambda: small + small, device, share)
        large = torch.ones(_MOVED, device=device, dtype=dtype)
        moving = _seconds(lambda: large.mul_(1), device, share)
    return Rates(
        flops=2 * _ROWS * width * 4 * width / product,
        call=call,
        moved=2 * large.nbytes / moving,
        seconds=time.perf_counter() - began,
    )


def _seconds(work: Callable[[], object], device: torch.device, most: float) -> float:
    """How long a piece of work takes on average, repeated for about so long."""
    work()  # the first call prepares
    _wait(device)
    began, times, together = time.perf_counter(), 0, 1
    while time.perf_counter() - began < most:
        for _ in range(together):
            work()
        _wait(device)
        times += together
        together = min(_TOGETHER, 2 * together)
    return (time.perf_counter() - began) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
