"""Hold Python's cyclic garbage collection back while much is imported or built that stays."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["without_collecting"]


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Collect no cycles meanwhile.

    torch and transformers have some four thousand modules. Looking through their objects again and again takes a fifth
    of the time of importing them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
