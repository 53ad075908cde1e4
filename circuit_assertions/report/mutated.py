"""The result of the `mutate` verb as text: the score, what survived, and what each assertion caught."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from circuit_assertions.ordering import ranked
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.suites_tested import facts_of_suites, labelled
from circuit_assertions.report.tables import Column, paragraph, table
from circuit_assertions.results import MutationResult
from circuit_assertions.results.mutation import AssertionTested, MutantResult, Score
from circuit_assertions.results.values import Figure
from circuit_assertions.verdict_words import Outcome

__all__ = ["mutation_lines"]

_LABELS = Column(least=12)
_WIDTH = 100  # of lists that are broken into lines
_RIGHT = Column(align="right")


@printable_lines
def mutation_lines(result: MutationResult) -> Iterator[tuple[str, str]]:
    """The test as (text, verdict) pairs."""
    yield from _plain(table(list(_facts(result)), _LABELS))
    yield "", ""
    yield from _plain(table(list(_scores(result)), _LABELS))
    yield "", ""
    yield from _plain(_kinds(result))
    for label, found, verdict in (
        ("survived", "survived", Outcome.BROKEN),
        ("unresolved", "unresolved", Outcome.UNRESOLVED),
        ("equivalent", "equivalent", ""),
    ):
        chosen = [one for one in result.mutants if one.damage and one.found == found]
        rows = [(label if not number else "", *_told(one)) for number, one in enumerate(chosen)]
        yield from ((line, verdict) for line in _block(rows))
    yield from _plain(_block(list(_alarms(result))))
    yield from _plain(_block(list(_not_judged(result))))
    yield from _plain(_block([("not made", one.name, one.reason) for one in result.not_made]))
    yield "", ""
    yield from _plain(_assertions(result))
    rows = [("never failed", one.name, _reach(one)) for one in result.assertions if one.name in result.never_failed]
    yield from ((line, Outcome.UNRESOLVED) for line in _block(rows))


def _plain(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from ((line, "") for line in lines)


def _block(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A list with its label in front of the first row, after an empty line; nothing where the list is empty."""
    if rows:
        yield ""
        first = rows[0][0]
        yield from table([(first if not number else "", *row[1:]) for number, row in enumerate(rows)], _LABELS)


def _facts(result: MutationResult) -> Iterator[tuple[str, ...]]:
    yield from facts_of_suites(result.model, result.suites, result.circuits)
    if result.heads:
        yield from paragraph(f"{', '.join(result.heads)} ({result.heads_from})", _WIDTH, "heads")
    else:
        yield "heads", f"none are damaged: {result.heads_from}"
    yield (
        "mutants",
        (
            f"with damage: {result.score.mutants}; harmless controls: {result.controls.mutants}; "
            f"noise of {result.strength:g} standard deviations, seed {result.seed}"
        ),
    )
    yield "assertions", f"{len(result.assertions)} hold on the undamaged model, which is the baseline of every mutant"
    yield from labelled("left out", [f"{one.name}: {one.outcome}, {one.reason}" for one in result.left_out])


def _scores(result: MutationResult) -> Iterator[tuple[str, str]]:
    yield "score", f"{_score(result.score)} of the mutants with damage are caught (an assertion is {Outcome.BROKEN})"
    equivalent = result.score.mutants - result.without_equivalent.mutants
    if equivalent:
        yield (
            "",
            (
                f"{_score(result.without_equivalent)} without {equivalent} equivalent, which change no behaviour or "
                f"reading by more than {result.negligible:.0%}"
            ),
        )
    yield "", f"{_score(result.with_unresolved)} where {Outcome.UNRESOLVED} fails too (--circuit-unresolved=fail)"
    if result.controls.mutants:
        controls = result.controls
        yield "controls", f"false alarms: {controls.caught} of {controls.mutants}"


def _score(score: Score) -> str:
    if score.share is None:
        return "none"
    return f"{score.caught} of {score.mutants}: {_percent(score.share)}"


def _percent(share: Figure) -> str:
    return f"{share.mean:.0%} [{share.low:.0%}, {share.high:.0%}]"


def _kinds(result: MutationResult) -> list[str]:
    rows = [("kind", "mutants", "caught", "unresolved", "survived", "equivalent", "")]
    for one in result.kinds:
        missed = (str(one.survived), str(one.equivalent)) if one.damage else ("", "")
        what = one.help if one.damage else f"control: {one.help}"
        rows.append((one.kind, str(one.made), str(one.caught), str(one.unresolved), *missed, what))
    return table(rows, Column(), *[_RIGHT] * 5)


def _told(one: MutantResult) -> tuple[str, ...]:
    """A mutant by its name, what it leaves of the behaviour, and the reading that it moves most."""
    kept = ", ".join(f"keeps {_percent(share)} of {task}" for task, share in one.behaviour.items())
    moved = ""
    if one.moved:
        most = ranked(one.moved, lambda name: one.moved[name])[0]
        moved = f"moves {most} most, by {one.moved[most]:.0%}"
    unresolved = [name for name, outcome in one.outcomes.items() if outcome == Outcome.UNRESOLVED]
    return one.name, kept or "behaviour not measured", ", ".join(unresolved) or moved


def _alarms(result: MutationResult) -> Iterator[tuple[str, ...]]:
    for one in result.mutants:
        broken = [name for name, outcome in one.outcomes.items() if outcome == Outcome.BROKEN]
        if broken and not one.damage:
            yield "false alarms", one.name, ", ".join(broken)


def _not_judged(result: MutationResult) -> Iterator[tuple[str, ...]]:
    """Assertions that hold on the undamaged model and could not be judged on a mutant, each reason once."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for one in result.mutants:
        for name, reason in one.reasons.items():
            # A reason may name the mutant.
            key = (name, one.outcomes[name], reason.replace(f" with {one.name}", ""))
            found.setdefault(key, []).append(one.name)
    for (name, outcome, reason), mutants in found.items():
        more = f" and {len(mutants) - 1} more" if len(mutants) > 1 else ""
        yield "not judged", name, f"{outcome} on {mutants[0]}{more}: {reason}"


def _assertions(result: MutationResult) -> list[str]:
    rows: list[tuple[str, ...]] = [("assertion", "caught", "alone", "unresolved", "caught by it")]
    for one in ranked(result.assertions, lambda one: len(one.caught)):
        counts = (str(len(one.caught)), str(len(one.alone)), str(len(one.unresolved)))
        rows += paragraph("; ".join(_by_kind(one.caught)), _WIDTH, one.name, *counts)
    return table(rows, Column(), *[_RIGHT] * 3)


def _by_kind(mutants: Sequence[str]) -> Iterator[str]:
    """`negate L3H1 L3H2`: the mutants of each kind together."""
    for kind, some in groupby(mutants, key=lambda name: name.partition(" ")[0]):
        yield " ".join([kind, *(name.partition(" ")[2] for name in some)])


def _reach(one: AssertionTested) -> str:
    """Which kinds of damage change an assertion's reading, and how far."""
    if not one.reached:
        return "no damage changes its reading"
    kinds = ranked(one.reached, lambda kind: one.reached[kind])
    return f"its reading is changed by {', '.join(f'{kind} (up to {one.reached[kind]:.0%})' for kind in kinds)}"
