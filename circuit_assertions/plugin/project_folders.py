"""Where a project keeps its records and its cache of readings. Nothing but the standard library."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["CACHE", "RECORDS", "cache_switched_off"]

RECORDS, CACHE = Path(".circuit-assertions") / "records", Path(".circuit-assertions") / "cache"  # below its root
_SWITCH = "CIRCUIT_ASSERTIONS_CACHE"  # `off`: for measurements of time, where an option cannot be given


def cache_switched_off() -> bool:
    """Whether no reading is kept or taken from the cache in this whole environment."""
    return os.environ.get(_SWITCH, "").lower() == "off"
