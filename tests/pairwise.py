"""Large families of cases: which of them the normal run takes, and which only `make test-complete`.

A test that is marked `family` runs a sample of its cases: every value of every parameter, and every pair of values of
two parameters, is in one of them. The other cases get the mark `complete`.

`family(main="both", whole=("gpt2", "llama"))` is for several tests of a file that share the parameter `both`, most
often the architecture. They are one family. The values in `whole` take every case. Each other value meets every value
of the other parameters once, in whichever test has it. A test without another parameter runs with `whole` alone: a
pairwise sample of one parameter and the tests would be all cases. For the same reason `turns=("parts",)` names
parameters of which each other value meets some value and not every one, in turn.

`sample(3)` marks a test with many cases of one kind: the normal run takes three of them, spread over the list.

The sample is drawn of the cases that are collected, so that a case asked for by its name runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from itertools import combinations

import pytest

__all__ = ["covering", "mark_families", "pairs_of", "spread"]

Case = Mapping[str, Hashable]
Pair = frozenset[tuple[str, Hashable]]


def pairs_of(case: Case) -> set[Pair]:
    """Every value of a case alone, and every two of them."""
    return {frozenset(some) for size in (1, 2) for some in combinations(case.items(), size)}


def covering(cases: Sequence[Case], first: Iterable[int] = (), kinds: Sequence[Hashable] = ()) -> list[int]:
    """Which cases to take, so that every pair of values that any case has is in one that is taken.

    Greedy, and the same for the same cases.

    Args:
        first: cases that are taken anyhow.
        kinds: what each case is a case of; of cases that add as much, one of the kind that was taken least is taken.
    """
    wanted = [pairs_of(case) for case in cases]
    taken = [*dict.fromkeys(first)]
    missing = set[Pair]().union(*wanted).difference(*(wanted[number] for number in taken))
    used = Counter(kinds[number] for number in taken if kinds)
    while missing:
        gains = [len(missing & pairs) for pairs in wanted]
        most = max(gains)
        best = [number for number, gain in enumerate(gains) if gain == most]
        chosen = min(best, key=lambda number: used[kinds[number]]) if kinds else best[0]
        taken.append(chosen)
        missing -= wanted[chosen]
        used.update([kinds[chosen]] if kinds else [])
    return sorted(taken)


def mark_families(items: Iterable[pytest.Item]) -> None:
    """Mark the cases `complete` that are not in the sample of their family."""
    families: dict[Hashable, list[pytest.Item]] = {}
    sampled: dict[Hashable, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sample") is not None and item.get_closest_marker("complete") is None:
            sampled.setdefault((item.path, _test(item)), []).append(item)
        mark = item.get_closest_marker("family")
        if mark is not None and "main" in mark.kwargs:
            families.setdefault((item.path, repr(mark.kwargs)), []).append(item)
        elif mark is not None:
            families.setdefault((item.path, _test(item)), []).append(item)
    for members in families.values():
        for item in _left_out(members):
            item.add_marker(pytest.mark.complete)
    for members in sampled.values():
        for item in _not_sampled(members):
            item.add_marker(pytest.mark.complete)


def spread(count: int, of: int) -> set[int]:
    """Which `count` of `of` places to take, from the first to the last."""
    if count >= of:
        return set(range(of))
    return {round(place * (of - 1) / max(count - 1, 1)) for place in range(count)}


def _not_sampled(members: Sequence[pytest.Item]) -> list[pytest.Item]:
    mark = members[0].get_closest_marker("sample")
    assert mark is not None
    taken = spread(mark.args[0], len(members))
    return [item for number, item in enumerate(members) if number not in taken]


def _left_out(members: Sequence[pytest.Item]) -> list[pytest.Item]:
    mark = members[0].get_closest_marker("family")
    assert mark is not None
    main: str = mark.kwargs.get("main", "")
    whole: Collection[Hashable] = mark.kwargs.get("whole", ())
    turns: Collection[str] = mark.kwargs.get("turns", ())
    tests, values = [_test(item) for item in members], _values(members)
    first = [number for number, case in enumerate(values) if case.get(main) in whole]
    cases: list[dict[str, Hashable]] = []
    for test, case in zip(tests, values, strict=True):
        cases.append({name: value for name, value in case.items() if name not in turns})
        if len(cases[-1]) < len(case):
            cases[-1]["test"] = test
    kinds = [
        (test, *(value for name, value in case.items() if name != main))
        for test, case in zip(tests, values, strict=True)
    ]
    taken = {*covering(cases, first, kinds)}
    return [item for number, item in enumerate(members) if number not in taken]


def _test(item: pytest.Item) -> str:
    return item.name.partition("[")[0]


def _values(members: Sequence[pytest.Item]) -> list[dict[str, Hashable]]:
    """Each case's values by parameter. One that is no word or number is called by its place in its test's list."""
    seen: dict[Hashable, dict[int, str]] = {}

    def called(test: str, name: str, value: object) -> Hashable:
        if isinstance(value, (str, int, float, type(None))):
            return value
        places = seen.setdefault((test, name), {})
        return places.setdefault(id(value), f"{test} {len(places)}")

    specs = [(_test(item), getattr(item, "callspec", None)) for item in members]
    return [
        {name: called(test, name, value) for name, value in spec.params.items()} if spec is not None else {}
        for test, spec in specs
    ]
