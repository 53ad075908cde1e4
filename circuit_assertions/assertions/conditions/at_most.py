"""`at-most: 0.1`."""

from __future__ import annotations

from typing import ClassVar

from circuit_assertions.assertions.bounds import BoundCondition

__all__ = ["AtMost"]


class AtMost(BoundCondition):
    """The whole interval lies at or below a number."""

    key: ClassVar[str] = "at-most"
    description: ClassVar[str] = "the mean is at most this"
    order: ClassVar[int] = 20
    is_lower: ClassVar[bool] = False

    @property
    def low_is_good(self) -> bool:
        return True
