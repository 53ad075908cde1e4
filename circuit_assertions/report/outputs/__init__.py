"""The outputs of an audit: one file of this folder each, and those that other packages offer.

A package offers an output with an entry point of the group `circuit_assertions.outputs` that names an `Output`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import PurePath

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.offered import Offer, UnfitOfferError, offers, twice
from circuit_assertions.report.output import Output
from circuit_assertions.tasks.schema import did_you_mean

__all__ = ["GROUP", "OutputError", "output_named", "output_names", "report_for"]

GROUP = "circuit_assertions.outputs"


class OutputError(CircuitAssertionsError):
    """An output that cannot be written in: unknown, or of a package that does not work."""


def output_names() -> list[str]:
    """The outputs that can be asked for. Nothing of another package is imported for it."""
    return sorted({*_own(), *(offer.name for offer in offers(GROUP, "output"))})


def output_named(name: str) -> Output:
    """The output of this name.

    Raises:
        OutputError: if there is none, two packages offer it, or the one that does cannot be used.
    """
    own, offered = _own(), [offer for offer in offers(GROUP, "output") if offer.name == name]
    if name in own and not offered:
        return own[name]
    if not offered:
        known = output_names()
        hint = did_you_mean(name, known) or f" (known: {', '.join(known)})"
        raise OutputError(f"unknown output {name!r}{hint}")
    owners = [*(["circuit-assertions"] if name in own else []), *(offer.package for offer in offered)]
    if len(owners) > 1:
        raise OutputError(twice("output", name, owners))
    try:
        return _output_of(offered[0])
    except UnfitOfferError as error:
        raise OutputError(str(error)) from error


def report_for(file: str) -> Output:
    """The output that a report is written in, by the suffix of its file.

    Raises:
        OutputError: if no output of this package has this suffix.
    """
    by_suffix = {output.suffix: output for output in _own().values() if output.suffix}
    suffix = PurePath(file).suffix.lower()
    if suffix not in by_suffix:
        known = ", ".join(sorted(by_suffix))
        problem = f"a report cannot be written as {suffix!r}" if suffix else "the name of the file has no suffix"
        raise OutputError(f"{problem}: use {known}")
    return by_suffix[suffix]


@cache
def _own() -> dict[str, Output]:
    return {output.name: output for output in _declared()}


def _declared() -> Iterator[Output]:
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        yield from (one for one in vars(importlib.import_module(module.name)).values() if isinstance(one, Output))


def _output_of(offer: Offer) -> Output:
    output = offer.load()
    if not isinstance(output, Output):
        raise offer.unfit("it is not an Output")
    if output.name != offer.name:
        raise offer.unfit(f"it calls itself {output.name!r}: give both the same name")
    return output
