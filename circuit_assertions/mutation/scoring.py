"""What a mutation test comes to: scores, counts by kind, and what each assertion caught."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from circuit_assertions.diagnosis.suite_verdicts import Bound
from circuit_assertions.measures.figures import Figure
from circuit_assertions.measures.intervals import Level, interval_of_share
from circuit_assertions.mutation.kinds import KINDS
from circuit_assertions.results import Figure as FigureResult
from circuit_assertions.results.mutation import AssertionTested, KindCount, MutantResult, NotMade, Score
from circuit_assertions.verdict_words import Outcome

__all__ = ["scored"]

_CAUGHT, _UNRESOLVED, _EQUIVALENT = "caught", "unresolved", "equivalent"


def scored(
    done: Iterable[MutantResult | NotMade], assertions: Mapping[str, Bound], negligible: float
) -> dict[str, object]:
    """The fields of a `MutationResult` that follow from the outcomes of its mutants.

    Args:
        assertions: those that were tested, by name.
        negligible: the change of a reading, as a share, up to which it was not reached.
    """
    done = list(done)
    mutants = [one for one in done if isinstance(one, MutantResult)]
    damage, controls = ([one for one in mutants if one.damage is wanted] for wanted in (True, False))
    tested = tuple(_tested(name, bound, mutants, negligible) for name, bound in assertions.items())
    return {
        "score": _score(damage),
        "without_equivalent": _score([one for one in damage if one.found != _EQUIVALENT]),
        "with_unresolved": _score(damage, (_CAUGHT, _UNRESOLVED)),
        "controls": _score(controls),
        "kinds": tuple(_count(name, mutants) for name in KINDS if any(one.kind == name for one in mutants)),
        "assertions": tested,
        "never_failed": tuple(one.name for one in tested if damage and not one.caught),
        "mutants": tuple(mutants),
        "not_made": tuple(one for one in done if isinstance(one, NotMade)),
    }


def _score(mutants: Sequence[MutantResult], counted: Collection[str] = (_CAUGHT,)) -> Score:
    caught = [one.found in counted for one in mutants]
    if not caught:
        return Score(caught=0, mutants=0, share=None)
    share = Figure(sum(caught) / len(caught), interval_of_share(np.array(caught, dtype=np.float64), Level.of_figures()))
    return Score(caught=sum(caught), mutants=len(caught), share=FigureResult.of(share))


def _count(kind: str, mutants: Sequence[MutantResult]) -> KindCount:
    found: list[str] = [one.found for one in mutants if one.kind == kind]
    return KindCount(
        kind=kind,
        damage=KINDS[kind].damage,
        help=KINDS[kind].help,
        made=len(found),
        caught=found.count(_CAUGHT),
        unresolved=found.count(_UNRESOLVED),
        survived=found.count("survived"),
        equivalent=found.count(_EQUIVALENT),
    )


def _tested(name: str, bound: Bound, mutants: Sequence[MutantResult], negligible: float) -> AssertionTested:
    def with_outcome(outcome: Outcome, damage: bool) -> tuple[str, ...]:
        return tuple(one.name for one in mutants if one.damage is damage and one.outcomes[name] == outcome)

    reached: dict[str, float] = {}
    for one in mutants:
        change = one.moved.get(name, 0.0)
        if one.damage and change > negligible:
            reached[one.kind] = max(change, reached.get(one.kind, 0.0))
    return AssertionTested(
        name=name,
        measure=bound.assertion.measure,
        caught=with_outcome(Outcome.BROKEN, damage=True),
        alone=tuple(
            one.name
            for one in mutants
            if one.damage and [key for key, outcome in one.outcomes.items() if outcome == Outcome.BROKEN] == [name]
        ),
        unresolved=with_outcome(Outcome.UNRESOLVED, damage=True),
        controls=with_outcome(Outcome.BROKEN, damage=False),
        reached=reached,
    )
