"""When an assertion broke along a training run, and when it held again: read from its verdicts, or found by bisection.

Checkpoints are named by their place in the run, counted from 0. Bisection assumes that an assertion goes from held to
broken at most once, and from broken to held at most once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from circuit_assertions.verdict_words import NOT_JUDGED, Outcome

__all__ = ["Spell", "bisect", "next_place", "spells"]

Verdicts = Mapping[str, str]  # by assertion


@dataclass(frozen=True)
class Spell:
    """A stretch of the run in which an assertion is broken.

    Attributes:
        held: the last place before it where the assertion was seen to hold; None where it was not.
        first, last: the first and the last place where it was seen broken.
        back: the first place after it where the assertion was seen to hold; None where it was not.
    """

    held: int | None
    first: int
    last: int
    back: int | None


def spells(seen: Mapping[int, str]) -> list[Spell]:
    """The spells of one assertion, from its verdicts by place. UNRESOLVED is neither broken nor held again."""
    found: list[Spell] = []
    held: int | None = None
    broken: list[int] = []
    for place in sorted(seen):
        if seen[place] == Outcome.BROKEN:
            broken.append(place)
        elif seen[place] == Outcome.HELD:
            if broken:
                found.append(Spell(held, broken[0], broken[-1], place))
                broken = []
            held = place
    if broken:
        found.append(Spell(held, broken[0], broken[-1], None))
    return found


def next_place(seen: Mapping[int, str], places: Sequence[int]) -> int | None:
    """Where one assertion has to be judged next; None once there is nothing left to find.

    The ends come first. Where neither is broken, the middle and the quarters follow; a spell that lies between these is
    missed.

    Args:
        seen: its verdicts by place.
        places: the places that can be read, in order.
    """
    if any(verdict in NOT_JUDGED for verdict in seen.values()):
        return None
    broken = [place for place in places if seen.get(place) == Outcome.BROKEN]
    looked_at = [places[0], places[-1], *([] if broken else _samples(places))]
    return next((place for place in (*looked_at, *_between(seen, broken, places)) if place not in seen), None)


def bisect(count: int, judge: Callable[[int], Verdicts | None]) -> None:
    """Find where every assertion broke and held again, with as few checkpoints judged as bisection needs.

    A checkpoint that is judged serves all assertions. The midpoints are those of the whole run, so that assertions meet
    at the same checkpoints.

    Args:
        count: how many checkpoints the run has.
        judge: judges all assertions at a place; None where its checkpoint cannot be read, which is then passed over.
    """
    judged: dict[int, Verdicts | None] = {}
    while (place := _wanted(judged, count)) is not None:
        judged[place] = judge(place)


def _wanted(judged: Mapping[int, Verdicts | None], count: int) -> int | None:
    places = [place for place in range(count) if place not in judged or judged[place] is not None]
    read = {place: verdicts for place, verdicts in judged.items() if verdicts is not None}
    if not read:
        return next(iter(places), None)
    names = dict.fromkeys(name for verdicts in read.values() for name in verdicts)
    wanted = (next_place({place: read[place][name] for place in read}, places) for name in names)
    return next((place for place in wanted if place is not None), None)


def _between(seen: Mapping[int, str], broken: Sequence[int], places: Sequence[int]) -> Iterator[int]:
    """The midpoints that would narrow down the first broken place, and the first that holds again after the last."""
    for edge in (
        next(iter(broken), None),
        next((place for place in sorted(seen) if seen[place] == Outcome.HELD and broken and place > broken[-1]), None),
    ):
        before = [place for place in seen if edge is not None and place < edge]
        if edge is not None and before:
            yield from _midpoint(places, places.index(max(before)), places.index(edge))


def _midpoint(places: Sequence[int], low: int, high: int) -> Iterator[int]:
    """The midpoint of the whole run's bisection that lies between two indices; none where they are neighbours."""
    start, end = 0, len(places) - 1
    while high - low > 1:
        middle = (start + end) // 2
        if low < middle < high:
            yield places[middle]
            return
        start, end = (middle, end) if middle <= low else (start, middle)


def _samples(places: Sequence[int]) -> list[int]:
    end = len(places) - 1
    return [places[index] for index in (end // 2, end // 4, (end // 2 + end) // 2)]
