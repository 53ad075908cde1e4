"""A training run as text: one row per checkpoint, and where each assertion broke and held again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from circuit_assertions.checkpoints import step_of
from circuit_assertions.diagnosis.bisecting import Spell, spells
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.explaining import figure_text
from circuit_assertions.results import AssertionResult, TrajectoryResult
from circuit_assertions.results.trajectory import CheckpointOfRun
from circuit_assertions.verdict_words import NOT_JUDGED, Outcome

__all__ = ["trajectory_lines", "turning_lines"]

_GAP = "  "


@printable_lines
def trajectory_lines(trajectory: TrajectoryResult) -> Iterator[str]:
    """The trajectory: facts, the table, and every assertion in words."""
    run, steps = trajectory.run_checkpoints, trajectory.steps
    yield f"run        {trajectory.run}   baseline {trajectory.baseline}"
    yield f"behaviour  {trajectory.task} {trajectory.metric.called}, {figure_text(trajectory.before)} on the baseline"
    if trajectory.prompts is not None:
        read, asked = trajectory.prompts.behaviour, trajectory.prompts.task
        more = f" of the {asked} of {trajectory.task}" if read != asked else ""
        yield f"prompts    {read}{more} for behaviour and roles, those of their suites for assertions"
    yield f"roles      of {trajectory.circuit}: the share of their effect on the baseline that is left"
    left_out = {role: why for step in steps for role, why in step.roles_not_compared.items()}
    yield from (f"           {role} is not compared: {why}" for role, why in left_out.items())
    unread = f", {lost} could not be read" if (lost := len(steps) - trajectory.audited) else ""
    yield f"audited    {trajectory.audited} of {len(run)} checkpoints{unread}"
    yield ""
    judged = [name for name in trajectory.assertions if not _skipped(trajectory, name)]
    yield from _table(trajectory, judged)
    yield ", ".join(_letters_used(trajectory, judged))
    yield ""
    names = [_step_name(checkpoint) for checkpoint in run]
    width = max(map(len, judged), default=0)
    for number, name in enumerate(judged, 1):
        everywhere = trajectory.audited == len(run)
        yield f"{number:>2} {name:<{width}}  {_turning(trajectory.seen(name), names, everywhere)}"
    yield from _left_out(trajectory)
    if trajectory.bisected:
        yield from _assumed(trajectory, judged)
    yield _conclusion(trajectory)


@printable_lines
def turning_lines(run: Sequence[str], lines: Sequence[AssertionResult]) -> Iterator[tuple[str, str]]:
    """Where each assertion broke along a run and where it held again, as (text, outcome) pairs.

    Args:
        run: the run's checkpoints in order, as the lines name them.
        lines: the verdicts; those of other checkpoints are left out. Where an assertion has no line for a checkpoint,
            it was not run there, of which nothing follows.

    Yields:
        A line for each suite, one for each assertion that broke, with its outcome at the last checkpoint, one that
        counts the others that were judged, and one that names the checkpoints where nothing of the suite was run.
    """
    names = [_step_name(model) for model in run]
    seen: dict[str, dict[str, dict[int, str]]] = {}
    for line in lines:
        if line.model in run:
            unseen: dict[int, str] = dict.fromkeys(range(len(run)), Outcome.NOT_RUN)
            seen.setdefault(line.suite, {}).setdefault(line.id, unseen)[run.index(line.model)] = line.outcome
    for suite, assertions in seen.items():
        judged = {name: places for name, places in assertions.items() if not set(places.values()) <= set(NOT_JUDGED)}
        broke = {name: places for name, places in judged.items() if Outcome.BROKEN in places.values()}
        unrun = [
            place for place in range(len(run)) if {places[place] for places in assertions.values()} == {Outcome.NOT_RUN}
        ]
        if judged or unrun:
            yield suite, ""
        width = max(map(len, broke), default=0)
        for name, places in broke.items():
            yield f"  {name:<{width}}  {_turning(places, names)}", places[max(places)]
        if others := len(judged) - len(broke):
            everywhere = all(Outcome.NOT_RUN not in places.values() for places in judged.values())
            if everywhere:
                yield f"  {others} {'other ' if broke else ''}assertion{'s' * (others != 1)} never broke", ""
            else:
                yield f"  {others} did not break where {'it was' if others == 1 else 'they were'} run", ""
        if unrun:
            yield f"  not run at {', '.join(names[place] for place in unrun)}", Outcome.NOT_RUN


def _table(trajectory: TrajectoryResult, judged: Sequence[str]) -> Iterator[str]:
    roles = list(dict.fromkeys(role for step in trajectory.steps for role in step.roles))
    columns: list[tuple[list[str], list[str]]] = [(["step"], [_short(step) for step in trajectory.steps])]
    behaviours = [figure_text(step.behaviour) if step.behaviour else "" for step in trajectory.steps]
    columns.append((trajectory.metric.called.split(), behaviours))
    for role in roles:
        shares = [f"{step.roles[role].mean:.0%}" if role in step.roles else "" for step in trajectory.steps]
        columns.append((_over_lines(role), shares))
    letters = [
        "".join(Outcome.of(step.verdicts[name]).letter for name in judged if step.verdicts) for step in trajectory.steps
    ]
    columns.append((_numbers(len(judged)), letters))
    if any(step.overall for step in trajectory.steps):
        columns.append((["overall"], [step.overall or "" for step in trajectory.steps]))
    widths = [max(map(len, [*heading, *cells])) for heading, cells in columns]
    deep = max(len(heading) for heading, _ in columns)
    for row in range(deep):
        heads = [([""] * (deep - len(heading)) + heading)[row] for heading, _ in columns]
        yield _GAP.join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)).rstrip()
    for index, step in enumerate(trajectory.steps):
        cells = [column[index] for _, column in columns]
        if step.problem:
            yield f"{cells[0]:>{widths[0]}}{_GAP}could not be read: {step.problem}"
        else:
            yield _GAP.join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _over_lines(role: str) -> list[str]:
    """`backup-name-mover` as three lines of a heading."""
    *first, last = role.split("-")
    return [*(f"{part}-" for part in first), last]


def _numbers(count: int) -> list[str]:
    """1, 2, 3 ... each over a column of one letter, its digits below each other."""
    deep = len(str(count))
    return ["".join(f"{number:>{deep}}"[row] for number in range(1, count + 1)) for row in range(deep)]


def _letters_used(trajectory: TrajectoryResult, judged: Sequence[str]) -> list[str]:
    used = {step.verdicts[name] for step in trajectory.steps if step.verdicts for name in judged}
    return [f"{one.letter} {one.lower()}" for one in Outcome if one in used]


def _turning(seen: Mapping[int, str], names: Sequence[str], everywhere: bool = True) -> str:
    """Where one assertion broke and held again, in words, each with the last verdict before it.

    Args:
        everywhere: whether all checkpoints of the run were read.
    """
    judged = {place: verdict for place, verdict in seen.items() if verdict not in NOT_JUDGED}
    if not judged:
        return "not judged"
    told = "; ".join(_spell(spell, judged, names) for spell in spells(judged))
    if not told:
        held = "held at each" if everywhere else "held at each that was read"
        open_at = [names[place] for place, verdict in sorted(judged.items()) if verdict != Outcome.HELD]
        told = f"never broken, unresolved at {', '.join(open_at)}" if open_at else held
    for said, outcomes in (("not judged", {*NOT_JUDGED} - {Outcome.NOT_RUN}), ("not run", {Outcome.NOT_RUN})):
        if lost := [names[place] for place in sorted(seen) if seen[place] in outcomes]:
            told += f"; {said} at {', '.join(lost)}"
    return told


def _spell(spell: Spell, judged: Mapping[int, str], names: Sequence[str]) -> str:
    if spell.held is not None:
        began = f"broke at {names[spell.first]} (held at {names[spell.held]})"
    else:
        began = f"broken from {names[spell.first]} on"
    if spell.back is not None:
        return f"{began}, held again at {names[spell.back]} (broken at {names[spell.last]})"
    last = max(judged)
    if judged[last] == Outcome.BROKEN and last == len(names) - 1:
        return f"{began}, still broken at {names[last]}"
    if judged[last] == Outcome.BROKEN:  # of the checkpoints after it nothing is known
        if spell.held is None:
            began = f"broken from {names[spell.first]} to" if spell.first != last else "broken at"
            return f"{began} {names[last]}, the last checkpoint where it was judged"
        return f"{began}, broken when it was last judged, at {names[last]}"
    if spell.held is None:  # an "on" that ends
        more = f" and last at {names[spell.last]}" if spell.last != spell.first else ""
        return f"never held: broken at {names[spell.first]}{more}, unresolved at {names[last]}"
    return f"{began}, not held again: last broken at {names[spell.last]}, unresolved at {names[last]}"


def _skipped(trajectory: TrajectoryResult, name: str) -> bool:
    return all(verdict == Outcome.SKIPPED for verdict in trajectory.seen(name).values())


def _left_out(trajectory: TrajectoryResult) -> Iterator[str]:
    """Why assertions were skipped or could not be judged, each reason once."""
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for step in trajectory.steps:
        for name, reason in step.reasons.items():
            reasons.setdefault((step.verdicts[name], reason), {})[name] = None
    for (verdict, reason), names in reasons.items():
        yield f"{verdict.lower():<10} {', '.join(names)}: {reason}"


def _assumed(trajectory: TrajectoryResult, judged: Sequence[str]) -> Iterator[str]:
    yield "bisection  assumes that an assertion breaks and holds again at most once; both ends were audited"
    found = {name: spells(trajectory.seen(name)) for name in judged}
    if never := sum(not spell for spell in found.values()):
        yield f"           {never} were not broken at any audited checkpoint: breaks in between are not detected"
    if left := [name for name in judged if set(trajectory.seen(name).values()) & set(NOT_JUDGED)]:
        yield f"           not searched, because they could not be judged at every checkpoint: {', '.join(left)}"
    if often := [name for name, spell in found.items() if len(spell) > 1]:
        yield f"           not true of {', '.join(often)}: audit every checkpoint, without --bisect"


def _conclusion(trajectory: TrajectoryResult) -> str:
    last = next((step for step in reversed(trajectory.steps) if not step.problem), None)
    if last is None:
        return "last       no checkpoint could be read"
    counts = Counter(last.verdicts.values())
    said = ", ".join(f"{counts[verdict]} {verdict.lower()}" for verdict in Outcome if counts[verdict])
    overall = f"; {last.overall}: {last.why}" if last.overall else ""
    return f"last       {_step_name(last.checkpoint)}: {said}{overall}"


def _short(step: CheckpointOfRun) -> str:
    return "final" if step.step is None else str(step.step)


def _step_name(checkpoint: str) -> str:
    number = step_of(checkpoint)
    return "the final weights" if number is None else f"step {number}"
