"""The options of the cache of readings."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuit_assertions.plugin.project_folders import CACHE, cache_switched_off

__all__ = ["add_cache_options", "cache_folder"]


def add_cache_options(parser: pytest.Parser, group: pytest.OptionGroup) -> None:
    """Register them, and their configuration keys."""
    group.addoption(
        "--circuit-cache",
        dest="circuit_cache",
        metavar="FOLDER",
        help="where readings are kept for later runs, which take no reading again. Default: "
        f"{CACHE.as_posix()} below pytest's root",
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
    if off or cache_switched_off():
        return None
    given, configured = config.getoption("circuit_cache"), config.getini("circuit_cache")
    return Path(config.invocation_params.dir / given if given else config.rootpath / str(configured or CACHE))
