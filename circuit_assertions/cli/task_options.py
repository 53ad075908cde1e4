"""Options by which kinds of tasks let their keys be set, of the verbs that name one task with `--task`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from circuit_assertions import CircuitAssertionsError

if TYPE_CHECKING:
    from circuit_assertions.tasks import Option

__all__ = ["add_keys_of_kinds", "keys_of_kinds"]


def add_keys_of_kinds(verb: argparse.ArgumentParser) -> None:
    """Add the options. Kinds are looked for only once a verb that has them is run (`VerbParser.add_late`).

    Raises:
        CircuitAssertionsError: if a kind has an option of a name that is taken.
    """
    for option, kind in _options_of_kinds().items():
        try:
            verb.add_argument(option.flag, dest=option.key, default=None, help=option.help, **_taking(option))
        except argparse.ArgumentError as error:
            name = verb.prog.rpartition(" ")[2]
            raise CircuitAssertionsError(
                f"the task kind {kind} has an option {option.flag}, and {name} has one of this name already"
            ) from error


def keys_of_kinds(given: argparse.Namespace) -> dict[str, Any]:
    """The keys of a task that the options set; None for those that were not given."""
    return {option.key: getattr(given, option.key) for option in _options_of_kinds()}


def _taking(option: Option) -> dict[str, Any]:
    """What argparse is to be told of an option."""
    match option.takes:
        case "words":
            return {"type": _words, "metavar": "A,B,..."}
        case "texts":
            return {"action": "append", "metavar": "TEXT"}
        case "text":
            return {"metavar": "TEXT"}
        case "nothing":
            return {"action": argparse.BooleanOptionalAction}


def _options_of_kinds() -> dict[Option, str]:
    """The options, each with the first kind that has it."""
    from circuit_assertions.tasks import kinds

    found: dict[Option, str] = {}
    for name, kind in kinds().items():
        for option in kind.options:
            found.setdefault(option, name)
    return found


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
