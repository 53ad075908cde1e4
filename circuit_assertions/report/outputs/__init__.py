"""The outputs of an audit: one file of this folder each, and those that other packages offer.

A package offers an output with an entry point of the group `circuit_assertions.outputs` that names an `Output`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.offered import package_of
from circuit_assertions.report.output import Output
from circuit_assertions.tasks.schema import did_you_mean
from circuit_assertions.unexpected import text_of

__all__ = ["GROUP", "OutputError", "output_named", "output_names"]

GROUP = "circuit_assertions.outputs"


class OutputError(CircuitAssertionsError):
    """An output that cannot be written in: unknown, or of a package that does not work."""


def output_names() -> list[str]:
    """The outputs that can be asked for. Nothing of another package is imported for it."""
    return sorted({*_own(), *(entry.name for entry in entry_points(group=GROUP))})


def output_named(name: str) -> Output:
    """The output of this name.

    Raises:
        OutputError: if there is none, two packages offer it, or the one that does cannot be used.
    """
    own, offered = _own(), [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if name in own and not offered:
        return own[name]
    if not offered:
        known = output_names()
        hint = did_you_mean(name, known) or f" (known: {', '.join(known)})"
        raise OutputError(f"unknown output {name!r}{hint}")
    owners = [*(["circuit-assertions"] if name in own else []), *map(package_of, offered)]
    if len(owners) > 1:
        raise OutputError(f"the output {name!r} is offered by {' and '.join(sorted(owners))}: remove one of them")
    return _loaded(offered[0])


@cache
def _own() -> dict[str, Output]:
    return {output.name: output for output in _declared()}


def _declared() -> Iterator[Output]:
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        yield from (one for one in vars(importlib.import_module(module.name)).values() if isinstance(one, Output))


def _loaded(entry: EntryPoint) -> Output:
    owner = f"the output {entry.name!r} of the package {package_of(entry)}"
    try:
        output = entry.load()
    except Exception as error:  # another package's import may raise anything
        raise OutputError(f"{owner} cannot be loaded ({text_of(error)}): correct or remove the package") from error
    if not isinstance(output, Output):
        raise OutputError(f"{owner} is not an Output: name one in the entry point, not {entry.value}")
    if output.name != entry.name:
        raise OutputError(f"{owner} calls itself {output.name!r}: give both the same name")
    return output
