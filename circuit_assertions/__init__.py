"""Regression tests for the mechanisms inside language models."""

from __future__ import annotations

__all__ = ["CircuitAssertionsError", "__version__"]

__version__ = "0.1.0"


class CircuitAssertionsError(Exception):
    """Root of every error that this package raises on purpose. Its text is one sentence and a way out."""
