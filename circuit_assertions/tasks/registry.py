"""All kinds of tasks: those of this folder, and those that installed packages bring.

A package brings a kind by an entry point of the group `circuit_assertions.tasks` that names its class.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Annotated, Any, Union, get_args

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from circuit_assertions.offered import Offer, UnfitOfferError, offers
from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.kind import TaskKind

__all__ = ["GROUP", "Task", "forget", "kinds", "known_circuits", "task_offering"]

GROUP = "circuit_assertions.tasks"

Kind = type[TaskKind]


@functools.cache
def kinds() -> Mapping[str, Kind]:
    """The kinds by name: the default one, then those that their name alone makes a task, then the others.

    Raises:
        TaskError: if an entry point cannot be loaded or is no kind of task, or two kinds have one name.
    """
    found: dict[str, tuple[Kind, str]] = {}
    for kind, origin in (*_own(), *_installed()):
        name = _literal_of(kind)
        known, other = found.setdefault(name, (kind, origin))
        if known is not kind:
            raise TaskError(
                f"the task kind {name!r} comes from {other} and from {origin}: rename or uninstall one of them"
            )
    ordered = sorted(found, key=lambda name: (not found[name][0].default, not found[name][0].by_name, name))
    return {name: found[name][0] for name in ordered}


def forget() -> None:
    """Look for the kinds again the next time: for a process in which packages were installed meanwhile."""
    kinds.cache_clear()
    _union.cache_clear()


def known_circuits() -> tuple[str, ...]:
    """The names of the circuits that kinds of tasks have."""
    return tuple(kind.circuit for kind in kinds().values() if kind.circuit)


def task_offering(what: str, positions: int) -> TaskKind | None:
    """The first kind's task that offers something and fits a model of so many positions; None if there is none."""
    tasks = (kind.fitting(positions) for kind in kinds().values())
    return next((task for task in tasks if task is not None and what in task.offers), None)


def _own() -> Iterator[tuple[Kind, str]]:
    folder = importlib.import_module(__package__)
    for listed in sorted(pkgutil.iter_modules(folder.__path__), key=lambda module: module.name):
        module = importlib.import_module(f"{__package__}.{listed.name}")
        yield from ((kind, module.__name__) for kind in _kinds_of(module))


def _kinds_of(module: ModuleType) -> Iterator[Kind]:
    """The kinds that a module defines, not those that it imports or that others are made from."""
    for value in vars(module).values():
        own = isinstance(value, type) and issubclass(value, TaskKind) and value.__module__ == module.__name__
        if own and _literal_of(value):
            yield value


def _installed() -> Iterator[tuple[Kind, str]]:
    for offer in offers(GROUP, "task kind"):
        try:
            yield _kind_of(offer), str(offer)
        except UnfitOfferError as error:
            raise TaskError(str(error)) from error


def _kind_of(offer: Offer) -> Kind:
    kind = offer.load()
    if not (isinstance(kind, type) and issubclass(kind, TaskKind)):
        raise offer.unfit("it is not a subclass of circuit_assertions.tasks.TaskKind")
    if not _literal_of(kind):
        raise offer.unfit("it has no name: declare `kind: Literal[...]` in it")
    if missing := getattr(kind, "__abstractmethods__", None):
        raise offer.unfit(f"it does not define {', '.join(sorted(missing))}")
    return kind


def _literal_of(kind: Kind) -> str:
    """The kind's name, as its field `kind` declares it; empty where that is no single word."""
    words = get_args(kind.model_fields["kind"].annotation)
    return words[0] if len(words) == 1 and isinstance(words[0], str) else ""


@functools.cache
def _union() -> TypeAdapter[TaskKind]:
    every: Any = Union[tuple(kinds().values())]  # noqa: UP007
    return TypeAdapter(Annotated[every, Field(discriminator="kind")])


class _OfAnyKind:
    """A task of any kind there is. Kinds are looked for when the first task is checked, not at import."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(_checked)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(_union().core_schema)


def _checked(value: Any, info: ValidationInfo) -> TaskKind:
    return _union().validate_python(value, context=info.context)


Task = Annotated[TaskKind, _OfAnyKind()]
