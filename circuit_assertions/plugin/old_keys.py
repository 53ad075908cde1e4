"""Configuration keys that were renamed: an error for users who run a suite, and for no other user."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

__all__ = ["RENAMED", "RenamedKeys"]

RENAMED = {
    "model": "circuit_model",
    "baseline": "circuit_baseline",
    "corrupted": "circuit_corrupted",
    "tokenizer": "circuit_tokenizer",
    "model_device": "circuit_device",
    "model_dtype": "circuit_dtype",
}


_SUITE_KEY = re.compile(r"""^(suite|"suite"|'suite')\s*:""", re.MULTILINE)


def _is_suite(file: Path) -> bool:
    try:
        return file.is_file() and bool(_SUITE_KEY.search(file.read_text(encoding="utf-8-sig", errors="replace")))
    except OSError:
        return False


class RenamedKeys:
    """Looks for the keys once it is known that a suite is run, and which keys are another plugin's."""

    def __init__(self, config: pytest.Config, parser: pytest.Parser) -> None:
        self._config = config
        self._parser = parser

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_collection_modifyitems"""
        if not hasattr(self._config, "workerinput"):
            self._refuse([item.nodeid for item in items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """https://pytest-xdist.readthedocs.io: what a worker has collected."""
        self._refuse(ids)

    def refuse_for(self, args: Sequence[str]) -> None:
        """Check the keys if a suite is named on the command line: an old key may be the reason that there is no model.

        Raises:
            pytest.UsageError: with the new name.
        """
        start = self._config.invocation_params.dir
        files = (start / arg.partition("::")[0] for arg in args)
        self._refuse([str(file) for file in files if file.suffix in (".yaml", ".yml") and _is_suite(file)])

    def _refuse(self, ids: Sequence[str]) -> None:
        """Check that no key has its old name.

        Raises:
            pytest.UsageError: with the new name.
        """
        if not any(name.partition("::")[0].endswith((".yaml", ".yml")) for name in ids):
            return
        for old, new in RENAMED.items():
            if self._is_set(old):
                raise pytest.UsageError(
                    f"{old!r} in {self._config.inipath or 'the options'} was renamed to {new}: use the new name"
                )

    def _is_set(self, key: str) -> bool:
        try:
            self._config.getini(key)
        except ValueError:  # nobody has such a key, so that a value can only be meant for this plugin
            self._parser.addini(key, f"the old name of {RENAMED[key]}", default=None)
            return self._config.getini(key) is not None
        return False
