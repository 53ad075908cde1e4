"""The records that options name: one in the place of the baseline, one that the run is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from circuit_assertions.plugin.options import Options
from circuit_assertions.printable import printable

if TYPE_CHECKING:
    from circuit_assertions.records.as_baseline import RecordedBaseline
    from circuit_assertions.records.cache import ReadingCache
    from circuit_assertions.records.record import Record

__all__ = ["cache_in", "record_named", "recorded_baseline"]

_NEEDS_WEIGHTS = "needs the baseline's weights: give them with --baseline=path/ in place of --baseline-record"


def recorded_baseline(options: Options, start: Path) -> RecordedBaseline | None:
    """The record of --baseline-record; None without it.

    Args:
        start: the folder that relative paths start from.

    Raises:
        pytest.UsageError: if there is none, it cannot be a baseline, or another option needs weights.
    """
    given, option = options.records.baseline, options.spelled("--baseline-record")
    if given is None:
        return None
    for other, said in (
        ("--baseline", options.baseline),
        ("--corrupted", options.corrupted),
        ("--discover", options.discover),
    ):
        if said and other == "--baseline":
            raise pytest.UsageError(options.respelled("give either --baseline or --baseline-record"))
        if said:
            raise pytest.UsageError(options.respelled(f"{other} {_NEEDS_WEIGHTS}"))
    from circuit_assertions.records.as_baseline import baseline_of
    from circuit_assertions.records.errors import RecordError

    record = record_named(given, options, start, option)
    try:
        return baseline_of(record, given)
    except RecordError as error:
        raise pytest.UsageError(options.respelled(f"{option}: {error}")) from error


def cache_in(options: Options) -> ReadingCache | None:
    """The cache of readings in the folder that the options name; None where it is switched off."""
    if options.records.cache is None:
        return None
    from circuit_assertions.records.cache import ReadingCache
    from circuit_assertions.records.cache_folder import CacheFolder

    return ReadingCache(CacheFolder(options.records.cache))


def record_named(given: str, options: Options, start: Path, option: str) -> Record:
    """A record by what a person typed.

    Args:
        option: that names it, for messages.

    Raises:
        pytest.UsageError: if there is none, or it cannot be read.
    """
    from circuit_assertions.records.errors import RecordError
    from circuit_assertions.records.store import find

    try:
        return find(given, start / options.records.folder, start).record
    except RecordError as error:
        raise pytest.UsageError(printable(f"{option}: {error}")) from error
