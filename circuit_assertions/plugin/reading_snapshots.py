"""Readings in syrupy's snapshot files: `assert audit.measure(...) == snapshot`."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.amber.serializer import AmberDataSerializer, AmberDataSerializerPlugin

from circuit_assertions.measures import Reading
from circuit_assertions.measures.tolerances import Setting, setting_of

__all__ = ["SnapshotPlugin", "keep_readings_as_text"]

_HEADER = re.compile(r"^\s*Reading of .* over \d+ prompts(?:, tokens \w+)?(?:, in (\w+) on (\w+))?$", re.MULTILINE)
_USUAL = Setting("float32", "cpu")  # which the text of a reading does not name


class ReadingText(AmberDataSerializerPlugin):
    """A reading is kept as its text, not as the arrays that it holds."""

    @classmethod
    def is_data_serializable(cls, data: Any) -> bool:
        """Whether this is a reading."""
        return isinstance(data, Reading)

    @classmethod
    def serialize(cls, data: Any, **kwargs: Any) -> str:
        """Its lines, indented as syrupy indents what lies inside of something else."""
        indent = "  " * kwargs.get("depth", 0)
        return "\n".join(f"{indent}{line}" for line in repr(data).splitlines())


class SnapshotPlugin:
    """Explains why a reading is not that of a snapshot where the two were read under different settings."""

    @pytest.hookimpl(wrapper=True)
    def pytest_assertrepr_compare(
        self, left: object, right: object
    ) -> Generator[None, list[list[str] | None], list[list[str] | None]]:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_assertrepr_compare"""
        told = yield
        reading, snapshot = (right, left) if isinstance(left, SnapshotAssertion) else (left, right)
        if not isinstance(reading, Reading) or not isinstance(snapshot, SnapshotAssertion):
            return told
        refusal = _refusal(reading, snapshot)
        return told if refusal is None else [[lines[0], refusal, *lines[1:]] if lines else None for lines in told]


def _refusal(reading: Reading, snapshot: SnapshotAssertion) -> str | None:
    """Why the two cannot be compared; None where their settings are the same, or nothing was kept."""
    own, kept = setting_of(reading), snapshot.executions[snapshot.num_executions - 1].recalled_data
    found = _HEADER.search(str(kept)) if kept is not None else None
    if own is None or found is None:
        return None
    other = Setting(found[1], found[2]) if found[1] else _USUAL
    if own == other:
        return None
    return (
        f"a snapshot in {other} cannot be compared with a reading in {own}: its text has no room for a tolerance; read "
        f"it with --model-dtype={other.dtype} --model-device={other.device}, or keep a snapshot for each"
    )


def keep_readings_as_text() -> None:
    """Let syrupy's own `snapshot` fixture accept readings. What it does with other values stays as it is."""
    known = tuple(AmberDataSerializer.serializer_plugins or ())
    if ReadingText not in known:
        AmberDataSerializer.serializer_plugins = (*known, ReadingText)
