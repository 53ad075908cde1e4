"""What a tracker does: it takes the figures of one checkpoint after the other."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Protocol

from circuit_assertions import CircuitAssertionsError

__all__ = ["Tracker", "TrackerError", "needed"]


class TrackerError(CircuitAssertionsError):
    """Figures cannot be logged."""


class Tracker(Protocol):
    """One run of a tracker. It is open until `end`."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Log the figures of one step.

        Raises:
            TrackerError: if the tracker refuses them.
        """

    def end(self, failed: bool = False) -> None:
        """Close the run.

        Args:
            failed: whether it is to be marked as failed.
        """


def needed(module: str, extra: str) -> ModuleType:
    """A module of an extra.

    Raises:
        TrackerError: with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TrackerError(
            f"{extra} is needed to log to it, and cannot be imported ({error}): pip install "
            f"'circuit-assertions[{extra}]'"
        ) from error
