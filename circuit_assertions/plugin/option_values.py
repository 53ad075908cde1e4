"""Values of options that are more than a word or a path. No torch, no YAML, nothing but pytest."""

from __future__ import annotations

import pytest

__all__ = ["said_confidence"]

_LEAST_SURE, _MOST_SURE = 0.5, 0.999999


def said_confidence(config: pytest.Config) -> float | None:
    """How sure a run must be, from `99.9%` or `0.999`; None where nobody said.

    Raises:
        pytest.UsageError: if it is no share, or lies too near to all or nothing.
    """
    given = config.getoption("circuit_confidence")
    said = str(given or config.getini("circuit_confidence") or "")
    if not said:
        return None
    try:
        share = float(said.removesuffix("%").strip()) / (100 if said.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not _LEAST_SURE <= share <= _MOST_SURE:
        where = "--circuit-confidence" if given else f"circuit_confidence in {config.inipath}"
        raise pytest.UsageError(
            f"{where} is {said!r}: give a share from {100 * _LEAST_SURE:g}% to {100 * _MOST_SURE:g}%, as 99.9% or 0.999"
        )
    return share
