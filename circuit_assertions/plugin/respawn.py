"""Make `pytest --model /outside/path` work as it is spelled.

While pytest looks for its root and configuration it does not know this plugin's options yet, and takes the separate
value of `--model` for a test path. A path outside the project then moves the root away, and the project's configuration
is lost. Nothing public can put that right within the process, so the same command is run once more with the value
attached, `--model=/outside/path`, which pytest reads correctly. Inside somebody else's process nothing may be started
anew, and the working spelling is asked for instead.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

__all__ = ["attach_values", "respawn_if_root_is_lost"]

_PATH_OPTIONS = ("--model", "--baseline", "--tokenizer", "--circuit-suites")
_GUARD = "CIRCUIT_ASSERTIONS_RESPAWNED"


def attach_values(args: Sequence[str]) -> list[str]:
    """The same arguments with `--model VALUE` written as `--model=VALUE`, and likewise for the other path options."""
    attached: list[str] = []
    waiting = list(args)
    while waiting:
        arg = waiting.pop(0)
        if arg in _PATH_OPTIONS and waiting:
            arg = f"{arg}={waiting.pop(0)}"
        attached.append(arg)
    return attached


def respawn_if_root_is_lost(config: pytest.Config) -> None:
    """Run the command again with attached values if a separate one has led pytest away from its root.

    Raises:
        pytest.UsageError: if that happened inside a process that is not ours to start anew.
    """
    args = [str(arg) for arg in config.invocation_params.args]
    if not _root_is_lost(config, args) or os.environ.get(_GUARD):
        return
    attached = attach_values(args)
    if args != sys.argv[1:]:
        wanted = next(new for new in attached if new not in args)
        raise pytest.UsageError(f"pytest took the value of an option for a test path and lost its root: write {wanted}")
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    sys.stdout.flush()
    environment = os.environ | {_GUARD: "1"}
    finished = subprocess.run([sys.executable, "-m", "pytest", *attached], env=environment, check=False)
    os._exit(finished.returncode)


def _root_is_lost(config: pytest.Config, args: Sequence[str]) -> bool:
    here = config.invocation_params.dir
    outside = [
        value
        for option, value in itertools.pairwise(args)
        if option in _PATH_OPTIONS and _exists_outside(here, Path(value))
    ]
    found = config.inipath is not None and here.is_relative_to(config.rootpath)
    return bool(outside) and not found


def _exists_outside(here: Path, value: Path) -> bool:
    target = (here / value).resolve()
    return target.exists() and not target.is_relative_to(here.resolve())
