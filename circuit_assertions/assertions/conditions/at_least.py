"""`at-least: 2.0`."""

from __future__ import annotations

from typing import ClassVar

from circuit_assertions.assertions.bounds import BoundCondition

__all__ = ["AtLeast"]


class AtLeast(BoundCondition):
    """The whole interval lies at or above a number."""

    key: ClassVar[str] = "at-least"
    description: ClassVar[str] = "the mean is at least this"
    order: ClassVar[int] = 10
    is_lower: ClassVar[bool] = True
