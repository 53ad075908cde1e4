"""Bisection over verdicts: right for every run that breaks once and heals once, with few checkpoints judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuit_assertions.diagnosis.bisecting import Spell, bisect, spells

Seen = dict[int, Mapping[str, str]]
COUNTS = st.integers(2, 200)


def run_of(*stretches: tuple[str, int]) -> list[str]:
    return [verdict for verdict, length in stretches for _ in range(length)]


@st.composite
def once(draw: st.DrawFn, count: int) -> list[str]:
    """Verdicts that turn at most once, with a stretch that is UNRESOLVED between what they turn from and to."""
    first = draw(st.integers(0, count))
    unresolved = draw(st.integers(0, min(3, count - first)))
    ends = draw(st.permutations(["HELD", "BROKEN"]))
    return run_of((ends[0], first), ("UNRESOLVED", unresolved), (ends[1], count - first - unresolved))


@st.composite
def down_and_up(draw: st.DrawFn, count: int) -> list[str]:
    """Held, broken, and held again."""
    low, high = sorted(draw(st.tuples(st.integers(1, count - 1), st.integers(1, count - 1))))
    return run_of(("HELD", low), ("BROKEN", high - low), ("HELD", count - high))


def bisected(*runs: Sequence[str], unreadable: Sequence[int] = ()) -> Seen:
    """What bisection looks at, of one assertion or of several together."""
    seen: Seen = {}

    def judge(place: int) -> Mapping[str, str] | None:
        assert place not in seen
        verdicts = {str(number): run[place] for number, run in enumerate(runs)}
        if place in unreadable:
            return None
        seen[place] = verdicts
        return verdicts

    bisect(len(runs[0]), judge)
    return seen


def of(name: int, seen: Seen) -> dict[int, str]:
    return {place: verdicts[str(name)] for place, verdicts in seen.items()}


def turns(found: Sequence[Spell]) -> list[tuple[int, int | None]]:
    return [(spell.first, spell.back) for spell in found]


def broken_and_back(run: Sequence[str]) -> list[tuple[int, int | None]]:
    """Where a run with at most one spell broke and came back, by looking at every checkpoint."""
    broken = [place for place, verdict in enumerate(run) if verdict == "BROKEN"]
    if not broken:
        return []
    return [(broken[0], next((place for place in range(broken[-1], len(run)) if run[place] == "HELD"), None))]


@settings(deadline=None, max_examples=300)
@given(run=COUNTS.flatmap(once))
def test_the_place_is_right_for_every_run_that_turns_once_and_few_are_judged(run: list[str]) -> None:
    seen = bisected(run)
    if "UNRESOLVED" not in (run[0], run[-1]):
        assert turns(spells(of(0, seen))) == broken_and_back(run)
    assert len(seen) <= ceil(log2(len(run))) + 2


@settings(deadline=None, max_examples=300)
@given(run=COUNTS.flatmap(down_and_up))
def test_a_spell_longer_than_a_quarter_of_the_run_is_found_and_bounded_on_both_sides(run: list[str]) -> None:
    seen = bisected(run)
    found = spells(of(0, seen))
    if run.count("BROKEN") > ceil(len(run) / 4):
        assert turns(found) == broken_and_back(run)
    assert turns(found) in ([], broken_and_back(run))
    assert len(seen) <= 2 * ceil(log2(len(run))) + 2


@settings(deadline=None, max_examples=200)
@given(runs=COUNTS.flatmap(lambda count: st.lists(once(count), min_size=2, max_size=8)))
@pytest.mark.complete
def test_together_they_need_no_checkpoint_that_none_of_them_needs_alone(runs: list[list[str]]) -> None:
    together = bisected(*runs)
    alone = [bisected(run) for run in runs]
    assert set(together) <= {place for seen in alone for place in seen}
    assert len(together) <= sum(map(len, alone))
    for number, run in enumerate(runs):
        if "UNRESOLVED" not in (run[0], run[-1]):
            assert turns(spells(of(number, together))) == broken_and_back(run)


@settings(deadline=None)
@given(run=COUNTS.flatmap(once), data=st.data())
def test_checkpoints_that_cannot_be_read_are_passed_over(run: list[str], data: st.DataObject) -> None:
    unreadable = data.draw(st.sets(st.integers(0, len(run) - 1), max_size=5))
    readable = [place for place in range(len(run)) if place not in unreadable]
    seen = bisected(run, unreadable=sorted(unreadable))
    assert unreadable.isdisjoint(seen)
    kept = [run[place] for place in readable]
    if kept and "UNRESOLVED" not in (kept[0], kept[-1]):
        expected = [
            (readable[first], None if back is None else readable[back]) for first, back in broken_and_back(kept)
        ]
        assert turns(spells(of(0, seen))) == expected


@settings(deadline=None)
@given(verdicts=st.lists(st.sampled_from(["HELD", "BROKEN", "UNRESOLVED"]), max_size=12))
def test_every_verdict_lies_where_the_spells_say(verdicts: list[str]) -> None:
    found = spells(dict(enumerate(verdicts)))
    assert all(one.back is not None and one.back < other.first for one, other in pairwise(found))
    inside = {place for spell in found for place in range(spell.first, spell.last + 1)}
    assert inside >= {place for place, verdict in enumerate(verdicts) if verdict == "BROKEN"}
    assert inside.isdisjoint(place for place, verdict in enumerate(verdicts) if verdict == "HELD")
    for spell in found:
        assert verdicts[spell.first] == verdicts[spell.last] == "BROKEN"
        assert spell.back is None or verdicts[spell.back] == "HELD"
        assert spell.held is None or verdicts[spell.held] == "HELD"


@pytest.mark.parametrize("verdict", ["SKIPPED", "ERROR"])
def test_what_cannot_be_judged_is_not_searched_for(verdict: str) -> None:
    assert set(bisected([verdict] * 50)) == {0}


def test_a_run_of_one_checkpoint_and_one_that_cannot_be_read_at_all() -> None:
    assert bisected(["BROKEN"]) == {0: {"0": "BROKEN"}}
    assert bisected(["HELD"] * 4, unreadable=range(4)) == {}


def test_more_than_one_spell_is_told_as_it_was_seen() -> None:
    run = dict(enumerate(["HELD", "BROKEN", "UNRESOLVED", "BROKEN", "HELD", "BROKEN", "UNRESOLVED"]))
    assert spells(run) == [Spell(0, 1, 3, 4), Spell(4, 5, 5, None)]
