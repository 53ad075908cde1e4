"""`circuit-assertions cache`: how much the cache of readings holds, and a way to empty it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuit_assertions.bounded import size_text
from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.cli.record_options import in_project

if TYPE_CHECKING:
    from circuit_assertions.records.cache import ReadingCache
    from circuit_assertions.records.cache_folder import CacheFolder, CacheSize

__all__ = ["add_cache", "add_no_cache", "cache_of_project"]


def add_cache(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("cache", help="show how much the cache of readings holds, or empty it")
    verb.add_argument("--clear", action="store_true", help="remove every entry: the next run takes all readings again")
    verb.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="the folder of the cache. Default: .circuit-assertions/cache in this folder, or in the nearest one above",
    )
    verb.set_defaults(run=_cache)


def add_no_cache(verb: argparse.ArgumentParser) -> None:
    """Add the option that leaves the cache of the project alone."""
    verb.add_argument(
        "--no-cache",
        action="store_true",
        help="take every reading again, also those that pytest has kept in .circuit-assertions/cache",
    )


def cache_of_project(given: argparse.Namespace) -> ReadingCache | None:
    """The cache that pytest keeps in this project; None where there is none, or the verb or the user wants none."""
    if getattr(given, "no_cache", True):
        return None
    from circuit_assertions.plugin.project_folders import CACHE, cache_switched_off

    if cache_switched_off():
        return None
    from circuit_assertions.records.cache import ReadingCache
    from circuit_assertions.records.cache_folder import CacheFolder

    folder = in_project(CACHE)
    return ReadingCache(CacheFolder(folder)) if folder.is_dir() else None


def _cache(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.plugin.project_folders import CACHE
    from circuit_assertions.records.cache_folder import CacheFolder

    folder = CacheFolder(given.cache or in_project(CACHE))
    return Outcome(printed(_lines(folder, folder.clear() if given.clear else None)))


def _lines(folder: CacheFolder, removed: CacheSize | None) -> Iterator[tuple[str, str]]:
    yield f"cache     {folder.folder}", ""
    for label, size in (("removed", removed), ("holds", folder.size())):
        if size is not None:
            yield f"{label:<9} {size.entries} entries, {size_text(size.size)}", ""
