"""The kinds of stages, one file each: every `Stage` of this folder's modules is a kind."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from circuit_assertions.assertions.chains.stage import Stage

__all__ = ["KINDS"]


def _found() -> Iterator[type[Stage]]:
    for module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
        for value in vars(importlib.import_module(f"{__name__}.{module}")).values():
            if isinstance(value, type) and issubclass(value, Stage) and value.__module__.endswith(f".{module}"):
                yield value


KINDS: tuple[type[Stage], ...] = tuple(_found())
