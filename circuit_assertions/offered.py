"""What other installed packages offer by entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint

__all__ = ["package_of"]


def package_of(entry: EntryPoint) -> str:
    """The package that an entry point belongs to; what it names, where it has no package."""
    return entry.dist.name if entry.dist is not None else entry.module.partition(".")[0]
