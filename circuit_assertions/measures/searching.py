"""Searching a subset K of a circuit's heads for which two ways of ablating differ most (Wang et al. 2022, section 4).

Greedy search is that of the paper's released code: grow K a head at a time, each time by the best of a few heads drawn
at random, several times over, and keep the best K that was ever tried. The printed Algorithm 3 differs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from circuit_assertions.heads import show_heads
from circuit_assertions.measures.head_sets import HeadSet

__all__ = ["Question", "best_greedy", "best_random", "shown"]

STEPS = 10  # heads that K may have
SAMPLE = 10  # heads that are tried at each step
RESTARTS = 5  # where a sample does not see all heads; otherwise all searches would be the same
RANDOM_KS = 10
_LEVEL = 1e-5  # scores closer than this share of the largest mean are level: the order of sums must decide nothing

Means = Callable[[Sequence[HeadSet]], list[float]]
Scored = tuple[float, HeadSet]


@dataclass(frozen=True)
class Question:
    """For which K among `candidates` do F without (`first` and K) and F without (`second` and K) differ most?"""

    first: HeadSet
    second: HeadSet
    candidates: HeadSet

    def ablated(self, removed: HeadSet) -> tuple[HeadSet, HeadSet]:
        """The two sets that are ablated for this K."""
        return self.first | removed, self.second | removed


@dataclass
class _Search:
    """One greedy search, a step at a time, so that many may share their sweeps."""

    question: Question
    rng: random.Random
    growing: HeadSet = frozenset()
    tried: list[Scored] = field(default_factory=list)
    done: bool = False

    def proposals(self) -> list[HeadSet]:
        """K as it is, and with one head more."""
        left = sorted(self.question.candidates - self.growing)
        sample = sorted(self.rng.sample(left, min(SAMPLE, len(left))))
        return [self.growing, *(self.growing | {head} for head in sample)]

    def grow(self, scored: Sequence[Scored], level: float, uphill: bool) -> None:
        """Take the best of the larger Ks, better than the present one or not; with `uphill`, stop where it is not."""
        (present, _), *larger = scored
        self.tried += scored
        score, self.growing = _best(larger or scored, level)
        self.done = not larger or len(self.growing) == STEPS or (uphill and score <= present + level)


def best_greedy(questions: Sequence[Question], means: Means, *, uphill: bool = False) -> list[HeadSet]:
    """The best K of a greedy search for each question. All searches take each step in one sweep.

    Args:
        means: mean logit difference with each of some sets ablated.
        uphill: search once, and only as long as K grows better; for questions so many that more is not affordable.
    """
    searches = [
        (number, _Search(question, random.Random(restart)))
        for number, question in enumerate(questions)
        for restart in range(1 if uphill or len(question.candidates) <= SAMPLE else RESTARTS)
    ]
    scale = 0.0
    while running := [search for _, search in searches if not search.done]:
        proposed = [(search, search.proposals()) for search in running]
        scale = max(scale, _ask([(search.question, removed) for search, removed in proposed], means))
        for search, removed in proposed:
            search.grow(_scored(search.question, removed, means), _LEVEL * scale, uphill)
    tried = [
        [one for of, search in searches if of == number for one in search.tried] for number in range(len(questions))
    ]
    return [_best(scored, _LEVEL * scale)[1] for scored in tried]


def best_random(questions: Sequence[Question], means: Means) -> list[HeadSet]:
    """The best of some random Ks for each question, every candidate in K with probability one half; always the same."""
    drawn = []
    for question in questions:
        rng = random.Random(0)
        drawn.append([_half(question.candidates, rng) for _ in range(RANDOM_KS)])
    scale = _ask(list(zip(questions, drawn, strict=True)), means)
    return [
        _best(_scored(question, removed, means), _LEVEL * scale)[1]
        for question, removed in zip(questions, drawn, strict=True)
    ]


def shown(removed: HeadSet) -> str:
    """K as text."""
    return show_heads(removed, most=len(removed)) or "no head"


def _half(candidates: HeadSet, rng: random.Random) -> HeadSet:
    return frozenset(head for head in sorted(candidates) if rng.random() < 0.5)


def _ask(tried: Iterable[tuple[Question, Sequence[HeadSet]]], means: Means) -> float:
    """Have everything that is tried read in one sweep; the largest mean there is."""
    sets = [ablated for question, several in tried for removed in several for ablated in question.ablated(removed)]
    return max(abs(mean) for mean in means(sets))


def _scored(question: Question, tried: Sequence[HeadSet], means: Means) -> list[Scored]:
    scored = []
    for removed in tried:
        first, second = means(question.ablated(removed))
        scored.append((abs(first - second), removed))
    return scored


def _best(scored: Sequence[Scored], level: float) -> Scored:
    """The first of those that are level with the best."""
    highest = max(score for score, _ in scored)
    return next(one for one in scored if one[0] >= highest - level)
