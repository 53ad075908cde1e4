"""The options of the cache of readings. Nothing but pytest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["add_cache_options", "cache_folder"]

_CACHE = ".circuit-assertions/cache"  # as in `records.cache_folder`, which this module need not import
_SWITCH = "CIRCUIT_ASSERTIONS_CACHE"  # `off`: for measurements of time, where an option cannot be given


def add_cache_options(parser: pytest.Parser, group: pytest.OptionGroup) -> None:
    """Register them, and their configuration keys."""
    group.addoption(
        "--circuit-cache",
        dest="circuit_cache",
        metavar="FOLDER",
        help=f"where readings are kept for later runs, which take no reading again. Default: {_CACHE} below pytest's "
        "root",
    )
    group.addoption(
        "--circuit-no-cache",
        action="store_true",
        default=None,
        dest="circuit_no_cache",
        help="take every reading again, and keep none",
    )
    parser.addini("circuit_cache", "default of --circuit-cache", default=None)
    parser.addini("circuit_no_cache", "default of --circuit-no-cache", type="bool", default=False)


def cache_folder(config: pytest.Config) -> Path | None:
    """The folder of the cache; None where it is switched off, by an option or for a whole environment."""
    off = config.getoption("circuit_no_cache") or config.getini("circuit_no_cache")
    if off or os.environ.get(_SWITCH, "").lower() == "off":
        return None
    given, configured = config.getoption("circuit_cache"), config.getini("circuit_cache")
    return Path(config.invocation_params.dir / given if given else config.rootpath / str(configured or _CACHE))
