"""Which conditions `expect` knows: the modules of `assertions/conditions`, and what other packages offer.

A package offers a condition with an entry point of the group `circuit_assertions.conditions` that names a subclass of
`Condition`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import TypeAdapter

from circuit_assertions.assertions import conditions as own
from circuit_assertions.assertions.condition import Condition
from circuit_assertions.unexpected import sentence_of

__all__ = ["GROUP", "Registry", "read_registry", "registry"]

GROUP = "circuit_assertions.conditions"
_KEY = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

AnyCondition = type[Condition[Any]]


@dataclass(frozen=True)
class Registry:
    """The conditions that suites may use.

    Attributes:
        conditions: by key, in the order of their texts.
        problems: one sentence for each condition of another package that cannot be used.
    """

    conditions: Mapping[str, AnyCondition]
    problems: tuple[str, ...] = ()


@lru_cache
def registry() -> Registry:
    """The conditions of this package, and those of the packages that are installed beside it."""
    return read_registry(entry_points(group=GROUP))


def read_registry(offered: Iterable[EntryPoint]) -> Registry:
    """The conditions of this package and those that are offered.

    A key that two packages offer, or that this package has, is left out: it would depend on the order of installation
    what a suite means.
    """
    known = {condition.key: condition for condition in _own_conditions()}
    found: dict[str, tuple[AnyCondition, str]] = {}
    problems: list[str] = []
    refused: set[str] = set()
    for entry in sorted(offered, key=lambda entry: (entry.name, entry.value)):
        source = f"{entry.value}{f' of {entry.dist.name}' if entry.dist is not None else ''}"
        try:
            condition = _loaded(entry)
        except Exception as error:
            reason = str(error) if isinstance(error, _UnfitError) else sentence_of(error)
            problems.append(f"the condition {entry.name!r} ({source}) cannot be used: {reason}")
            continue
        key = condition.key
        if key in known:
            problems.append(f"the condition {key!r} ({source}) cannot be used: circuit-assertions has this key itself")
        elif key in found:
            problems.append(
                f"the condition {key!r} is offered twice, by {found[key][1]} and by {source}: uninstall one"
            )
            refused.add(key)
        else:
            found[key] = condition, source
    known |= {key: condition for key, (condition, _) in found.items() if key not in refused}
    ordered = sorted(known.values(), key=lambda condition: (condition.order, condition.key))
    return Registry({condition.key: condition for condition in ordered}, tuple(problems))


class _UnfitError(Exception):
    """What an entry point names is no usable condition."""


def _own_conditions() -> Iterator[AnyCondition]:
    for module in pkgutil.iter_modules(own.__path__, f"{own.__name__}."):
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(found, Condition) and found.__module__ == module.name:
                yield found


def _loaded(entry: EntryPoint) -> AnyCondition:
    found = entry.load()
    if not inspect.isclass(found) or not issubclass(found, Condition):
        raise _UnfitError("it is not a subclass of circuit_assertions.assertions.condition.Condition")
    lacking = [name for name in ("key", "value_type", "description") if not hasattr(found, name)]
    lacking += sorted(getattr(found, "__abstractmethods__", ()))
    if lacking:
        raise _UnfitError(f"it does not define {', '.join(lacking)}")
    if not isinstance(found.key, str) or not _KEY.fullmatch(found.key):
        raise _UnfitError(f"its key {found.key!r} is not a word in kebab-case")
    TypeAdapter(found.value_type)  # a type that pydantic cannot validate is told here, and not where suites are loaded
    return found
