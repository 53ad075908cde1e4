"""Attention heads by name: `L9H10` is head 10 of layer 9, both counted from zero."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from circuit_assertions import CircuitAssertionsError

__all__ = ["Head", "HeadError", "parse_head", "show_heads"]

_NAME = re.compile(r"L(\d+)H(\d+)")


class HeadError(CircuitAssertionsError, ValueError):
    """A value that should name a head does not name one."""


class Head(NamedTuple):
    """One attention head. Sorts by layer, then by head; prints as `L9H10`."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"


def parse_head(value: object) -> Head:
    """Read one head as a suite may write it: `L9H10`, or `[9, 10]`.

    Raises:
        HeadError: for anything else. A float gets a sentence of its own, because YAML reads `9.10` as the number 9.1
            and so turns head 10 into head 1 without a warning.
    """
    if isinstance(value, Head):
        return value
    if isinstance(value, str):
        match = _NAME.fullmatch(value.strip())
        if match:
            return Head(int(match[1]), int(match[2]))
        raise HeadError(f"{value!r} is not a head: write it as L9H10, or as [9, 10]")
    if isinstance(value, float):
        raise HeadError(
            f"{value!r} is a number, and YAML reads 9.10 as 9.1, so head 10 would become head 1: "
            f"write the head as L9H10, or as [9, 10]"
        )
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(part) is int and part >= 0 for part in value):
        return Head(value[0], value[1])
    raise HeadError(f"{value!r} is not a head: write it as L9H10, or as [9, 10]")


def show_heads(heads: Iterable[Head], most: int = 8) -> str:
    """Print heads in order, `L0H1, L2H3`, and say how many were left out beyond `most`."""
    ordered = sorted(heads)
    shown = ", ".join(str(head) for head in ordered[:most])
    return shown if len(ordered) <= most else f"{shown} and {len(ordered) - most} more"
