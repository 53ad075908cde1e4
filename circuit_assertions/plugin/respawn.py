"""Make `pytest --model /outside/path` work as it is spelled.

While pytest looks for its root and configuration it does not know this plugin's options yet, and takes the separate
value of `--model` for a test path. A path outside the project then moves the root away, and the project's configuration
is lost. Nothing public can put that right within the process, so the same command is run once more with the value
attached, `--model=/outside/path`, which pytest reads correctly. Inside another process the command
cannot be run again; there an error gives the spelling that works.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from circuit_assertions.plugin.short_options import PLAIN, is_declared_in_a_conftest, undeclared

__all__ = ["attach_values", "respawn_if_root_is_lost"]

_SHORT = ("--model", "--baseline", "--baseline-record", "--corrupted", "--tokenizer", "--policy")
_PATH_OPTIONS = (*_SHORT, *(PLAIN[short] for short in _SHORT), "--circuit-suites")
_CONFIGURATION = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")


def attach_values(args: Sequence[str], options: Sequence[str] = _PATH_OPTIONS) -> list[str]:
    """The same arguments with `--model VALUE` written as `--model=VALUE`, and likewise for the other path options."""
    attached: list[str] = []
    waiting = list(args)
    while waiting:
        arg = waiting.pop(0)
        if arg in options and waiting and not waiting[0].startswith("-"):
            arg = f"{arg}={waiting.pop(0)}"
        attached.append(arg)
    return attached


def respawn_if_root_is_lost(config: pytest.Config) -> None:
    """Run the command again with attached values if a separate one has led pytest away from its root.

    Raises:
        pytest.UsageError: if that happened inside a process that this package may not start again.
    """
    args = [str(arg) for arg in config.invocation_params.args]
    options = [option for option in _PATH_OPTIONS if option not in _SHORT or _is_ours(config, option, args)]
    attached = attach_values(args, options)  # holds no separate value any more, so the second run cannot end up here
    if attached == args or not _root_is_lost(config, args, options):
        return
    if not _is_pytests_own_process(args):
        wanted = next(new for new in attached if new not in args)
        raise pytest.UsageError(f"pytest took the value of an option for a test path and lost its root: write {wanted}")
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    sys.stdout.flush()
    sys.stderr.flush()
    # What stands before the arguments stays: `python -X dev -m pytest`, `pytest`, `coverage run -m pytest`.
    command = [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(args)], *attached]
    if os.name == "posix":
        os.execv(sys.executable, command)  # the same process: its signals, exit code and parent stay as they are
    os._exit(subprocess.run(command, check=False).returncode)


def _is_pytests_own_process(args: Sequence[str]) -> bool:
    started = Path(sys.argv[0])
    named = started.stem.startswith(("pytest", "py.test")) or started.parts[-2:] == ("pytest", "__main__.py")
    return named and args == sys.argv[1:] == sys.orig_argv[len(sys.orig_argv) - len(args) :]


def _is_ours(config: pytest.Config, option: str, args: Sequence[str]) -> bool:
    """Whether a short option can only be meant for this plugin: another one may have an option of that name."""
    values = [value for name, value in itertools.pairwise(args) if name == option]
    theirs = any(is_declared_in_a_conftest(config, option, value) for value in values)
    return bool(undeclared(config, [option])) and not theirs


def _root_is_lost(config: pytest.Config, args: Sequence[str], options: Sequence[str]) -> bool:
    """Whether a value may have led pytest astray. In doubt it is: a second run with attached values does no harm."""
    here = config.invocation_params.dir
    given = [here / value for option, value in itertools.pairwise(args) if option in options]
    mistaken = [value.resolve() for value in given if value.exists()]
    if not mistaken or config.known_args_namespace.inifilename:
        return False
    if not here.is_relative_to(config.rootpath):
        return True
    if all(value.is_relative_to(here.resolve()) for value in mistaken):
        return False  # with a path inside, the search passes through here
    return config.inipath is None or _has_nearer_configuration(here, config.inipath.parent)


def _has_nearer_configuration(here: Path, found: Path) -> bool:
    """Whether a folder from `here` upwards, below the one that was `found`, may configure pytest."""
    nearer = itertools.takewhile(lambda folder: folder != found, (here, *here.parents))
    return any((folder / name).is_file() for folder in nearer for name in _CONFIGURATION)
