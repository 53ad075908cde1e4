"""How much work a search takes, counted instead of timed: rows through blocks, and forward passes.

A row is the residual stream of one variant of one prompt at one position going through one block. A pass is one prompt
going through the whole model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Work", "add_passes", "add_rows", "counted_work"]


@dataclass
class Work:
    """What was counted: rows of patched runs, and passes of clean runs and counterfactuals."""

    rows: int = 0
    passes: int = 0


_counts: ContextVar[Work | None] = ContextVar("counts", default=None)


@contextlib.contextmanager
def counted_work() -> Iterator[Work]:
    """Count what is done meanwhile."""
    work = Work()
    token = _counts.set(work)
    try:
        yield work
    finally:
        _counts.reset(token)


def add_rows(count: int) -> None:
    """Note that so many rows went through a block."""
    work = _counts.get()
    if work is not None:
        work.rows += count


def add_passes(count: int) -> None:
    """Note that so many prompts went through the model."""
    work = _counts.get()
    if work is not None:
        work.passes += count
