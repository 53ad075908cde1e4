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
from importlib.metadata import EntryPoint
from typing import Any

from pydantic import TypeAdapter

from circuit_assertions.assertions import conditions as own
from circuit_assertions.assertions.condition import Condition
from circuit_assertions.offered import Offer, UnfitOfferError, offers, twice
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
    return read_registry()


def read_registry(entries: Iterable[EntryPoint] | None = None) -> Registry:
    """The conditions of this package and those that the installed packages, or these entry points, offer.

    A key that two packages offer, or that this package has, is left out: it would depend on the order of installation
    what a suite means.
    """
    known = {condition.key: condition for condition in _own_conditions()}
    owners = {key: {"circuit-assertions"} for key in known}
    found: dict[str, AnyCondition] = {}
    problems: dict[str, str] = {}
    for offer in offers(GROUP, "condition", entries):
        try:
            condition = _condition_of(offer)
        except UnfitOfferError as error:
            problems[str(offer)] = str(error)
            continue
        owner = owners.setdefault(condition.key, set())
        owner.add(f"{offer.package} ({offer.value})")
        if len(owner) == 1:
            found[condition.key] = condition
        else:
            found.pop(condition.key, None)
            problems[condition.key] = twice("condition", condition.key, owner)
    known |= found
    ordered = sorted(known.values(), key=lambda condition: (condition.order, condition.key))
    return Registry({condition.key: condition for condition in ordered}, tuple(problems.values()))


def _own_conditions() -> Iterator[AnyCondition]:
    for module in pkgutil.iter_modules(own.__path__, f"{own.__name__}."):
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(found, Condition) and found.__module__ == module.name:
                yield found


def _condition_of(offer: Offer) -> AnyCondition:
    found = offer.load()
    if not inspect.isclass(found) or not issubclass(found, Condition):
        raise offer.unfit("it is not a subclass of circuit_assertions.assertions.condition.Condition")
    lacking = [name for name in ("key", "value_type", "description") if not hasattr(found, name)]
    lacking += sorted(getattr(found, "__abstractmethods__", ()))
    if lacking:
        raise offer.unfit(f"it does not define {', '.join(lacking)}")
    if not isinstance(found.key, str) or not _KEY.fullmatch(found.key):
        raise offer.unfit(f"its key {found.key!r} is not a word in kebab-case")
    try:
        TypeAdapter(found.value_type)  # else it would fail where suites are loaded, far from its cause
    except Exception as error:
        raise offer.unfit(sentence_of(error)) from error
    return found
