"""Readings in syrupy's snapshot files: `assert audit.measure(...) == snapshot`."""

from __future__ import annotations

from typing import Any

from syrupy.extensions.amber.serializer import AmberDataSerializer, AmberDataSerializerPlugin

from circuit_assertions.measures import Reading

__all__ = ["keep_readings_as_text"]


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


def keep_readings_as_text() -> None:
    """Let syrupy's own `snapshot` fixture accept readings. What it does with other values stays as it is."""
    known = tuple(AmberDataSerializer.serializer_plugins or ())
    if ReadingText not in known:
        AmberDataSerializer.serializer_plugins = (*known, ReadingText)
