"""Run the packaged suites from outside a test run: `circuit-assertions audit path/`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from circuit_assertions.assertions.packaged import packaged_suites

__all__ = ["run_packaged_suites"]


def run_packaged_suites(model: str, arguments: Sequence[str]) -> int:
    """`pytest --model=MODEL ARGUMENTS` on the suites that came with the package. Returns pytest's exit code."""
    # The project in the working directory has its own pytest configuration, which is not about these suites.
    fixed = ["--rootdir", str(packaged_suites()), "-c", os.devnull, "-p", "no:cacheprovider"]
    fixed += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]  # by this very program
    return int(pytest.main([*fixed, f"--circuit-model={model}", *arguments, str(packaged_suites())]))
