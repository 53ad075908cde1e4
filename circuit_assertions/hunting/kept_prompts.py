"""hypothesis with a seed *and* its example database, under a key of our own, by its public interface.

`hypothesis.find` takes no database where it has a seed, and a test's own key follows from its source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["simplest"]

_PARTS = (b".secondary", b".pareto")  # what hypothesis keeps beside the examples themselves


class _FoundError(Exception):
    """The example fails, which is what is searched."""


class _Keyed(ExampleDatabase):
    """A folder of examples of which all that is kept has one key, whatever test asks for it."""

    def __init__(self, folder: Path, key: bytes) -> None:
        super().__init__()
        self._folder = DirectoryBasedExampleDatabase(folder)
        self._key = key

    def fetch(self, key: bytes) -> Iterable[bytes]:
        """What is kept."""
        return self._folder.fetch(self._own(key))

    def save(self, key: bytes, value: bytes) -> None:
        """Keep an example."""
        self._folder.save(self._own(key), value)

    def delete(self, key: bytes, value: bytes) -> None:
        """Keep an example no longer."""
        self._folder.delete(self._own(key), value)

    def _own(self, key: bytes) -> bytes:
        return self._key + next((part for part in _PARTS if key.endswith(part)), b"")


def simplest(
    strategy: SearchStrategy[Any],
    fails: Callable[[Any], bool],
    *,
    number: int,
    examples: int,
    database: Path | None,
    key: bytes,
) -> Any | None:
    """The simplest example that fails; None where none did.

    Args:
        number: the seed.
        examples: how many are drawn at most until one fails.
        database: the folder of examples, of which those under `key` are tried first; None for none.
    """
    last: list[Any] = []

    def put(example: Any) -> None:
        if fails(example):
            last[:] = [example]
            raise _FoundError

    used = settings(
        max_examples=examples,
        database=None if database is None else _Keyed(database, key),
        deadline=None,
        phases=(Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
    )
    try:
        used(seed(number)(given(strategy)(put)))()  # in this order: `seed` takes the database out of earlier settings
    except _FoundError:
        return last[0]
    return None
