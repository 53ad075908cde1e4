"""Bounds on an adapter's configuration: patterns that would match for hours, lists without end, ranks without tensors.

PEFT matches patterns against the name of every module. A pattern can take exponential time, and nothing in this process
could stop it: so each is tried in a process of its own, which can be stopped. No torch.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from circuit_assertions.checkpoints.errors import CheckpointError

__all__ = ["refuse_endless"]

_SECONDS = 5  # for all patterns on all names; ordinary ones take milliseconds
_LONGEST = 10_000  # characters of a pattern
_MOST = 10_000  # entries of a list
_LARGEST = 1 << 16  # what any number may be; larger ones need a tensor as large
_FREE = re.compile(r"alpha|seed|step|token|^t(init|final)$|deltat", re.IGNORECASE)  # numbers that size nothing
_REPEATS = re.compile(r"[*+{?]")
_TRY = """
import json, re, sys
patterns, names = json.load(sys.stdin)
for pattern in patterns:
    for name in names:
        re.fullmatch(pattern, name)
        re.match(pattern, name)
"""


def refuse_endless(folder: Path, config: Mapping[str, Any], names: Sequence[str], widest: int) -> None:
    """Check that applying an adapter ends.

    Args:
        names: of the modules and parameters of its base.
        widest: the largest dimension of the adapter's tensors.

    Raises:
        CheckpointError: naming the field that has no end.
    """
    file = folder / "adapter_config.json"
    for field, value in config.items():
        size = len(value) if isinstance(value, (str, list, dict)) else 0
        if size > (_LONGEST if isinstance(value, str) else _MOST):
            raise CheckpointError(
                f"{file} has a {field} of {size} {'characters' if isinstance(value, str) else 'entries'}, more than "
                f"any adapter needs: list the modules that it adapts, or save the merged model"
            )
        for number in _numbers(value):
            if abs(number) > max(_LARGEST, widest) and not _FREE.search(field):
                raise CheckpointError(
                    f"{file} has {field} {_short(number)}, but no tensor of the adapter is that large: check that "
                    f"the file belongs to these weights, or save the merged model"
                )
    patterns = [pattern for pattern in _patterns(config) if _REPEATS.search(pattern)]
    if patterns:
        _try(file, patterns, names)


def _short(number: float) -> str:
    return f"of {number.bit_length()} bits" if isinstance(number, int) and abs(number) > 10**15 else str(number)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _numbers(one)
    elif isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def _patterns(config: Mapping[str, Any]) -> Iterator[str]:
    """Everything that PEFT takes for a regular expression, as it does."""
    for field, value in config.items():
        if isinstance(value, str) and re.search(r"modules|parameters", field):
            yield value
        said = [value] if isinstance(value, str) else value
        if field == "layers_pattern" and isinstance(said, list):
            yield from (rf"(?:^|.*?\.){one}\.(?P<idx>\d+)\." for one in said if isinstance(one, str))
        if field == "modules_to_save" and isinstance(value, list):
            yield from (rf"(^|.*\.){one}($|\..*)" for one in value if isinstance(one, str) and _REPEATS.search(one))
        if field.endswith("_pattern") and isinstance(value, dict):
            yield from (rf"(.*\.)?({key})$" for key in value if _REPEATS.search(key))


def _try(file: Path, patterns: Sequence[str], names: Sequence[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _TRY],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        process.communicate(json.dumps([patterns, names]), timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise CheckpointError(
            f"{file} has a pattern for module names that takes more than {_SECONDS} seconds to match, "
            f"{patterns[0]!r:.80}: list the modules by name, or save the merged model"
        ) from None
