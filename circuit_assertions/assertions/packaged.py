"""Where the suites are that came with the package."""

from __future__ import annotations

from pathlib import Path

import circuit_assertions

__all__ = ["packaged_suites"]


def packaged_suites() -> Path:
    """The folder of the suites: inside the package once installed, at the top level in a checkout of the project."""
    package = Path(circuit_assertions.__file__).parent
    installed = package / "suites"
    return installed if installed.is_dir() else package.parent / "suites"
