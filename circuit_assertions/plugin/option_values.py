"""Values of options: shares, and paths of configuration files. No torch, no YAML, nothing but pytest."""

from __future__ import annotations

import os

import pytest

__all__ = ["from_root", "path_from_file", "path_in_root", "policy_from_file", "said_confidence"]

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


def path_from_file(config: pytest.Config, key: str) -> str | None:
    """A path or hub id from the configuration file. Paths there are meant from the root, wherever pytest is started."""
    value = config.getini(key)
    if not value:
        return None
    return from_root(config, [str(value)])[0] if (config.rootpath / str(value)).exists() else str(value)


def policy_from_file(config: pytest.Config) -> str:
    """A policy's name or the path of its file, from the configuration file."""
    value = str(config.getini("circuit_policy") or "default")
    return from_root(config, [value])[0] if value.endswith((".yaml", ".yml")) else value


def path_in_root(config: pytest.Config, key: str) -> str | None:
    """The path of a file to be written, from the configuration file."""
    value = config.getini(key)
    return from_root(config, [str(value)])[0] if value else None


def from_root(config: pytest.Config, paths: list[str]) -> list[str]:
    """Paths that are meant from the root, as they are meant from where pytest was started."""
    here = config.invocation_params.dir
    if here == config.rootpath:
        return paths
    return [os.path.relpath(config.rootpath / path, here) for path in paths]
