"""Snapshots of readings: one file an assertion, kept by syrupy and compared as numbers, within what is allowed.

They are in `snapshots/<suite>/` beside the suite, not in `__snapshots__/`: there syrupy's own extension takes files of
others for unused ones.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from syrupy.assertion import SnapshotAssertion
from syrupy.data import SnapshotCollection
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from syrupy.location import PyTestLocation

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.kept import Allowed, Compared, Difference, KeptReading, SnapshotError, compared
from circuit_assertions.assertions.planned import PlannedAssertion
from circuit_assertions.bounded import UnreadableError, read_bounded
from circuit_assertions.files import write_whole
from circuit_assertions.measures import Reading
from circuit_assertions.measures.figures import number, signed
from circuit_assertions.measures.tolerances import Tolerances
from circuit_assertions.printable import printable

__all__ = ["ItemSnapshots", "KeptReadings", "python_snapshots"]

_MOST_BYTES = 8_000_000
_MOST_HEADS = 20  # that a difference shows


class KeptReadings(SingleFileSnapshotExtension):
    """syrupy's storage of one reading for each assertion.

    Attributes:
        within: how far a reading may differ, of the comparison that comes next.
        together: whether its heads are judged together.
        tolerances: of readings under different settings.
    """

    _write_mode = WriteMode.TEXT
    file_extension = "json"

    within: Allowed | str = "interval"
    together: bool = False
    tolerances: Tolerances | None = None

    def serialize(self, data: Any, **_: Any) -> str:
        """The text of a reading."""
        if isinstance(data, Reading):
            data = KeptReading.of(data, self.together)
        if not isinstance(data, KeptReading):
            raise SnapshotError(f"only a reading can be compared with it, as of audit.measure(...), not {data!r}")
        return data.text()

    def matches(self, *, serialized_data: Any, snapshot_data: Any) -> bool:
        """Whether the reading is within what is allowed. What cannot be compared does not match."""
        try:
            differences = self.compared(serialized_data, snapshot_data).differences
        except CircuitAssertionsError:
            return False
        return all(one.is_within for one in differences)

    def compared(self, serialized_data: str, snapshot_data: str) -> Compared:
        """The comparison of two texts.

        Raises:
            CircuitAssertionsError: if they cannot be compared.
        """
        now, kept = KeptReading.read(serialized_data, "the reading"), KeptReading.read(snapshot_data, "the snapshot")
        return compared(now, kept, self.within, self.tolerances)

    def diff_lines(self, serialized_data: Any, snapshot_data: Any) -> Iterator[str]:
        """The heads that differ by more than is allowed, the largest difference first."""
        if not snapshot_data:
            return
        try:
            found = self.compared(serialized_data, snapshot_data)
        except CircuitAssertionsError as error:
            yield printable(str(error))
            return
        outside = [one for one in found.differences if not one.is_within]
        yield from (_line(one) for one in outside[:_MOST_HEADS])
        if len(outside) > _MOST_HEADS:
            yield f"and {len(outside) - _MOST_HEADS} more"

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:
        """`snapshots/<suite>` beside the suite; another name by --snapshot-dirname."""
        folder = str(cls.snapshot_dirname).strip("_") or "snapshots"
        return str(Path(test_location.filepath).parent / folder / test_location.basename)

    @classmethod
    def matches_test_location(cls, *, test_location: PyTestLocation, snapshot_location: str) -> bool:
        """Whether a file is of exactly this assertion: syrupy's own rule reads `a-b` and `a-c` as the same test."""
        place = Path(cls.dirname(test_location=test_location)).resolve()
        file = Path(snapshot_location)
        name = cls.get_snapshot_name(test_location=test_location)
        stem = file.name.removesuffix(f".{cls.file_extension}")
        return file.parent.resolve() == place and (stem == name or stem.startswith(f"{name}."))

    def read_snapshot_data_from_location(
        self, *, snapshot_location: str, snapshot_name: str, session_id: str
    ) -> str | None:
        """The text of a file; None where there is none."""
        try:
            return read_bounded(Path(snapshot_location), _MOST_BYTES).decode("utf-8")
        except UnreadableError:
            if not Path(snapshot_location).exists():
                return None
            raise

    @classmethod
    def write_snapshot_collection(
        cls, *, snapshot_collection: SnapshotCollection, name_order: dict[str, int] | None = None
    ) -> None:
        """Write the file whole."""
        write_whole(Path(snapshot_collection.location), str(next(iter(snapshot_collection)).data))


def _line(one: Difference) -> str:
    name = f"{one.name} " if one.name else ""
    return f"{name}{number(one.now)}, kept {number(one.kept)}: {signed(one.now - one.kept)}"


class ItemSnapshots:
    """The snapshot of one assertion item, compared once however many looks there are."""

    def __init__(self, request: pytest.FixtureRequest, again: str, tolerances: Tolerances | None) -> None:
        self._request = request
        self._again = again
        self._tolerances = tolerances
        self._found: Compared | None = None

    def __call__(self, asked: PlannedAssertion, reading: Reading, within: Allowed | str) -> Compared:
        """Compare a reading with its snapshot, or write that under --snapshot-update.

        Raises:
            SnapshotError: if there is no snapshot, or it cannot be compared.
        """
        if self._found is None:
            self._found = self._compared(reading, within, asked.assertion.needed == "mean")
        return self._found

    def _compared(self, reading: Reading, within: Allowed | str, together: bool) -> Compared:
        snapshot = _snapshot_of(self._request)
        storage = snapshot.extension
        assert isinstance(storage, KeptReadings)
        storage.within, storage.together, storage.tolerances = within, together, self._tolerances
        now = KeptReading.of(reading, together)
        same = bool(snapshot == now)
        done = snapshot.executions[snapshot.num_executions - 1]
        if done.exception is not None:
            raise done.exception
        file = _shown(Path(done.snapshot_location), self._request.config)
        if same and (done.created or done.updated):
            return Compared(within, compared(now, now, within).differences, written=True)
        if done.recalled_data is None:
            raise SnapshotError(f"there is no snapshot {file}: {self._again} --snapshot-update writes it")
        try:
            return storage.compared(now.text(), str(done.recalled_data))
        except CircuitAssertionsError as error:
            raise SnapshotError(f"{file}: {error}; {self._again} --snapshot-update writes it again") from error


def python_snapshots(request: pytest.FixtureRequest) -> Callable[..., SnapshotAssertion]:
    """What compares readings of one Python test with their snapshots; each comparison has a file of its own."""
    snapshot = _snapshot_of(request)
    storage = snapshot.extension
    assert isinstance(storage, KeptReadings)

    def within(rel: str | float | None = None, abs: float | None = None) -> SnapshotAssertion:  # noqa: A002
        given = {key: value for key, value in (("rel", rel), ("abs", abs)) if value is not None}
        try:
            storage.within = Allowed.model_validate(given) if given else "interval"
        except ValidationError as error:
            raise SnapshotError(f"circuit_snapshot: {error.errors()[0]['msg']}") from error
        return snapshot

    return within


def _snapshot_of(request: pytest.FixtureRequest) -> SnapshotAssertion:
    try:
        snapshot: SnapshotAssertion = request.getfixturevalue("snapshot")
    except pytest.FixtureLookupError as error:
        raise SnapshotError("snapshots are kept by the pytest plugin syrupy, which is switched off") from error
    return snapshot.use_extension(KeptReadings)


def _shown(file: Path, config: pytest.Config) -> str:
    start = config.invocation_params.dir
    return shlex.quote(str(file.relative_to(start)) if file.is_relative_to(start) else str(file))
