"""What other installed packages offer by entry points: one way to list, load and name it.

The groups are `circuit_assertions.measures`, `.tasks`, `.conditions`, `.outputs` and `.suites`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.printable import printable
from circuit_assertions.unexpected import sentence_of

__all__ = ["Offer", "UnfitOfferError", "offers", "twice"]


class UnfitOfferError(CircuitAssertionsError):
    """What a package offers cannot be used; the message says what, of which package, and why."""


@dataclass(frozen=True)
class Offer:
    """One thing that a package offers.

    Attributes:
        what: what it is, in words: `measure`.
    """

    what: str
    entry: EntryPoint

    @property
    def name(self) -> str:
        """What the entry point calls it."""
        return self.entry.name

    @property
    def value(self) -> str:
        """What the entry point names: `my_package.module:thing`."""
        return self.entry.value

    @property
    def package(self) -> str:
        """The package; the first part of `value`, where the entry point belongs to none."""
        return self.entry.dist.name if self.entry.dist is not None else self.entry.module.partition(".")[0]

    def load(self) -> Any:
        """What the entry point names.

        Raises:
            UnfitOfferError: if importing it fails, in whatever way.
        """
        try:
            return self.entry.load()
        except Exception as error:  # another package's import may raise anything
            raise self.unfit(sentence_of(error)) from error

    def unfit(self, why: str) -> UnfitOfferError:
        """The error that this cannot be used.

        Args:
            why: a clause of its own: `it is not an Output`.
        """
        return UnfitOfferError(printable(f"{self} cannot be used: {why}; correct or uninstall {self.package}"))

    def __str__(self) -> str:
        return f"the {self.what} {self.name!r} ({self.value} of {self.package})"


def offers(group: str, what: str, entries: Iterable[EntryPoint] | None = None) -> tuple[Offer, ...]:
    """What packages offer in a group, by name and package. Nothing is imported.

    Args:
        entries: entry points to take for those of the installed packages.
    """
    found = entry_points(group=group) if entries is None else entries
    return tuple(
        sorted((Offer(what, entry) for entry in found), key=lambda offer: (offer.name, offer.package, offer.value))
    )


def twice(what: str, name: str, owners: Iterable[str]) -> str:
    """The sentence that several packages offer the same name, so that none of them is used.

    It must not depend on the order of installation which of them a suite means.
    """
    return printable(f"the {what} {name!r} is offered by {' and by '.join(sorted(owners))}: uninstall one of them")
