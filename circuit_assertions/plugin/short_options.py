"""The short spellings of options: `--model` for `--circuit-model`, where no one else has an option of that name.

Another project's conftest.py or plugin may declare `--model`. So the short spellings are never registered with pytest:
two options of one name are an error, whichever comes first. They are translated instead, after all initial conftests
and plugins were loaded and right before pytest parses its arguments, and only those that nobody else has declared.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

__all__ = [
    "PLAIN",
    "declare_defaults",
    "hide_values",
    "is_declared_in_a_conftest",
    "register_now",
    "spelled",
    "translate",
    "translated",
    "undeclared",
]

WITH_A_VALUE = {
    "--model": "--circuit-model",
    "--baseline": "--circuit-baseline",
    "--baseline-record": "--circuit-baseline-record",
    "--corrupted": "--circuit-corrupted",
    "--tokenizer": "--circuit-tokenizer",
    "--model-device": "--circuit-device",
    "--model-dtype": "--circuit-dtype",
    "--policy": "--circuit-policy",
}
FLAGS = {
    "--discover": "--circuit-discover",
    "--no-diagnosis": "--circuit-no-diagnosis",
    "--allow-pickle": "--circuit-allow-pickle",
    "--trust-remote-code": "--circuit-trust-remote-code",
}
PLAIN: Mapping[str, str] = WITH_A_VALUE | FLAGS

_OURS = pytest.StashKey[dict[str, str]]()
_MISSING = object()
_OF_CHECKPOINTS = (
    "config.json",
    "adapter_config.json",
    "checkpoint-*",
    "*.safetensors",
    "*.gguf",
    "*.bin",
    "*.pt",
    "*.pth",
)


def declare_defaults(config: pytest.Config, parser: pytest.Parser) -> None:
    """Let pytest 8 know every declared option, as pytest 9 does: it learns those without a default only as it parses.

    Raises:
        argparse.ArgumentError: two options have one name, which pytest 8 notices only here.
    """
    if pytest.version_tuple < (9,):
        with contextlib.suppress(pytest.UsageError):  # an option is required; the defaults have been set by then
            parser.parse_known_args([], namespace=config.option)


def undeclared(config: pytest.Config, names: Iterable[str] = PLAIN) -> list[str]:
    """Those of the plain options that no conftest and no plugin has declared so far."""
    return [name for name in names if config.getoption(name, _MISSING) is _MISSING]


def spelled(config: pytest.Config, option: str) -> str:
    """The shortest spelling of one of our options that works in this run."""
    ours = config.stash.get(_OURS, {})
    return next((short for short, full in ours.items() if full == option), option)


def translated(args: Sequence[str], names: Iterable[str]) -> list[str]:
    """The same arguments with these plain options in their full spelling. What follows `--` are paths."""
    return list(_translated(_unfolded(args, set(names)), set(names)))


def translate(config: pytest.Config, args: list[str]) -> None:
    """Put the plain options that are nobody else's into their full spelling, in place."""
    ours = undeclared(config)
    config.stash[_OURS] = {name: PLAIN[name] for name in ours}
    args[:] = translated([str(arg) for arg in args], ours)


def register_now(parser: pytest.Parser, config: pytest.Config | None) -> None:
    """Register the plain options that nobody has so far: for `--help`, or where it is too late to translate."""
    group = parser.getgroup("circuit")
    if config is not None:
        declare_defaults(config, parser)
    for name in PLAIN if config is None else undeclared(config):
        full = PLAIN[name]
        dest = full.removeprefix("--").replace("-no-", "-").replace("-", "_")
        same = f"short for {full}"
        with contextlib.suppress(argparse.ArgumentError, ValueError):
            if name in FLAGS:
                action = "store_false" if name.startswith("--no-") else "store_true"
                group.addoption(name, action=action, default=None, dest=dest, help=same)
            elif name == "--model":
                group.addoption(name, action="append", dest=dest, metavar="PATH", help=same)
            else:
                metavar = name.rpartition("-")[2].upper() if name.startswith("--model-") else "PATH"
                group.addoption(name, dest=dest, metavar=metavar, help=same)


def hide_values(config: pytest.Config, parser: pytest.Parser, args: Sequence[str]) -> None:
    """Keep the values of plain options from being taken for test paths, whose conftest.py would be imported.

    No code from a checkpoint may run. A folder of tests stays a test path where a conftest.py of its own, or of
    a folder above it in the project, names the option: `pytest --model sub/`, where sub/conftest.py has such a flag.
    """
    given = [str(arg) for arg in args]
    ours = undeclared(config)
    provisional = translated(given, ours)
    if provisional == given:
        return
    try:
        paths = list(parser.parse_known_args(provisional).file_or_dir)
    except pytest.UsageError:  # it may be another's option, that takes no value
        return
    for option, value in values_of(given, ours):
        folder = is_declared_in_a_conftest(config, option, value)
        paths += [str(folder)] if folder is not None else []
    config.known_args_namespace.file_or_dir = paths


def values_of(args: Sequence[str], options: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Options with the values that stand behind them as arguments of their own."""
    options = {option for option in options if option not in FLAGS}
    for option, value in itertools.pairwise(itertools.takewhile(lambda arg: arg != "--", args)):
        if option in options and not value.startswith("-"):
            yield option, value


def is_declared_in_a_conftest(config: pytest.Config, option: str, value: str) -> Path | None:
    """The folder of the project, from `value` upwards, whose conftest.py names the option."""
    try:
        start = (config.invocation_params.dir / value).resolve()
        chain = [start] if start.is_dir() and not _is_checkpoint(start) else []
        root = config.rootpath.resolve()
        above = list(itertools.takewhile(lambda folder: folder != root, start.parents))
        chain += above if root in start.parents else []
        return next((folder for folder in chain if _names(folder / "conftest.py", option)), None)
    except OSError:
        return None


def _names(conftest: Path, option: str) -> bool:
    if not conftest.is_file():
        return False
    text = conftest.read_text(encoding="utf-8", errors="replace")
    return f'"{option}"' in text or f"'{option}'" in text


def _is_checkpoint(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in _OF_CHECKPOINTS)


def _translated(args: Iterable[str], names: set[str]) -> Iterator[str]:
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            yield arg
            break
        name, equals, value = arg.partition("=")
        yield f"{PLAIN[name]}{equals}{value}" if name in names else arg
    yield from rest


def _unfolded(args: Iterable[str], names: set[str]) -> Iterator[str]:
    """`@FILE` stands for the arguments in a file, one a line. Left as it is where none of them concerns us."""
    for arg in args:
        lines = _lines_of(Path(arg[1:])) if arg.startswith("@") else []
        if any(line.partition("=")[0] in names for line in lines):
            yield from _unfolded((line for line in lines if line != arg), names)
        else:
            yield arg


def _lines_of(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # pytest says so itself
        return []
