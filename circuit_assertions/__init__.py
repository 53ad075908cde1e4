"""Regression tests for the mechanisms inside language models."""

from __future__ import annotations

from circuit_assertions.printable import printable

__all__ = ["CircuitAssertionsError", "__version__"]

__version__ = "0.1.0"


class CircuitAssertionsError(Exception):
    """Root of every error that this package raises on purpose. Its text is one sentence and a way out.

    Args:
        lines: the text, a line each: one, but for problems of a suite. Each of them is made printable.
    """

    def __init__(self, *lines: object) -> None:
        super().__init__(*(printable(str(line)) for line in lines))

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))
