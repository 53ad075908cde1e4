"""A training run as text: one row per checkpoint, and where each assertion broke and held again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from circuit_assertions.checkpoints import step_of
from circuit_assertions.diagnosis.bisecting import Spell, spells
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.explaining import figure_text
from circuit_assertions.report.tables import Column, table
from circuit_assertions.results import AssertionResult, TrajectoryResult
from circuit_assertions.results.trajectory import CheckpointOfRun
from circuit_assertions.verdict_words import NOT_JUDGED, Outcome

__all__ = ["trajectory_lines", "turning_lines"]

_LABELS = Column(least=9)


@printable_lines
def trajectory_lines(trajectory: TrajectoryResult) -> Iterator[tuple[str, str]]:
    """The trajectory as (text, verdict) pairs: facts, the table, and every assertion in words."""
    run = trajectory.run_checkpoints
    yield from _plain(table(list(_facts(trajectory)), _LABELS))
    yield "", ""
    judged = [name for name in trajectory.assertions if not _skipped(trajectory, name)]
    yield from _steps(trajectory, judged)
    yield ", ".join(_letters_used(trajectory, judged)), ""
    yield "", ""
    names = [_step_name(checkpoint) for checkpoint in run]
    everywhere = trajectory.audited == len(run)
    seen = [trajectory.seen(name) for name in judged]
    courses = [
        (str(number), name, _turning(places, names, everywhere))
        for number, (name, places) in enumerate(zip(judged, seen, strict=True), 1)
    ]
    lines = table(courses, Column(least=2, align="right", gap=1))
    yield from ((line, _broken_last(places)) for line, places in zip(lines, seen, strict=True))
    yield from _plain(table(list(_left_out(trajectory)), Column(least=10, gap=1)))
    if trajectory.bisected:
        yield from _plain(table(list(_assumed(trajectory, judged)), _LABELS))
    yield _conclusion(trajectory)
    yield from _plain(table([("note", note) for note in trajectory.notes], _LABELS))


def _plain(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from ((line, "") for line in lines)


def _broken_last(places: Mapping[int, str]) -> str:
    """The verdict that colours the course of an assertion: the last, if it ever broke."""
    return places[max(places)] if Outcome.BROKEN in places.values() else ""


def _facts(trajectory: TrajectoryResult) -> Iterator[tuple[str, str]]:
    run, steps = trajectory.run_checkpoints, trajectory.steps
    yield "run", f"{trajectory.run}   baseline {trajectory.baseline}"
    if not trajectory.policy.is_default:
        yield "policy", trajectory.policy.name
    yield "behaviour", f"{trajectory.task} {trajectory.metric.called}, {figure_text(trajectory.before)} on the baseline"
    if trajectory.prompts is not None:
        read, asked = trajectory.prompts.behaviour, trajectory.prompts.task
        more = f" of the {asked} of {trajectory.task}" if read != asked else ""
        yield "prompts", f"{read}{more} for behaviour and roles, those of their suites for assertions"
    yield "roles", f"of {trajectory.circuit}: the share of their effect on the baseline that is left"
    left_out = {role: why for step in steps for role, why in step.roles_not_compared.items()}
    yield from (("", f"{role} is not compared: {why}") for role, why in left_out.items())
    unread = f", {lost} could not be read" if (lost := len(steps) - trajectory.audited) else ""
    yield "audited", f"{trajectory.audited} of {len(run)} checkpoints{unread}"


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
        courses = table([(name, _turning(places, names)) for name, places in broke.items()], indent=2)
        yield from ((line, _broken_last(places)) for line, places in zip(courses, broke.values(), strict=True))
        if others := len(judged) - len(broke):
            everywhere = all(Outcome.NOT_RUN not in places.values() for places in judged.values())
            if everywhere:
                yield f"  {others} {'other ' if broke else ''}assertion{'s' * (others != 1)} never broke", ""
            else:
                yield f"  {others} did not break where {'it was' if others == 1 else 'they were'} run", ""
        if unrun:
            yield f"  not run at {', '.join(names[place] for place in unrun)}", Outcome.NOT_RUN


def _steps(trajectory: TrajectoryResult, judged: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A row for each checkpoint that was audited, under a heading."""
    steps = trajectory.steps
    columns = list(_columns(trajectory, judged))
    deep = max(len(heading) for heading, _ in columns)
    headings = zip(*([""] * (deep - len(heading)) + heading for heading, _ in columns), strict=True)
    rows = [cells[:1] if step.problem else cells for step, cells in zip(steps, _rows(columns), strict=True)]
    lines = table([*headings, *rows], *[Column(align="right")] * len(columns))
    yield from _plain(lines[:deep])
    for step, line in zip(steps, lines[deep:], strict=True):
        problem = f"  could not be read: {step.problem}" if step.problem else ""
        yield f"{line}{problem}", step.overall or ""


def _columns(trajectory: TrajectoryResult, judged: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Each column: its heading in one or more lines, and its cells."""
    steps = trajectory.steps
    yield ["step"], [_short(step) for step in steps]
    yield trajectory.metric.called.split(), [figure_text(step.behaviour) if step.behaviour else "" for step in steps]
    for role in dict.fromkeys(role for step in steps for role in step.roles):
        yield _over_lines(role), [f"{step.roles[role].mean:.0%}" if role in step.roles else "" for step in steps]
    letters = ["".join(Outcome.of(step.verdicts[name]).letter for name in judged if step.verdicts) for step in steps]
    yield _numbers(len(judged)), letters
    if any(step.overall for step in steps):
        yield ["overall"], [step.overall or "" for step in steps]


def _rows(columns: Sequence[tuple[list[str], list[str]]]) -> Iterator[tuple[str, ...]]:
    yield from zip(*(cells for _, cells in columns), strict=True)


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


def _left_out(trajectory: TrajectoryResult) -> Iterator[tuple[str, str]]:
    """Why assertions were skipped or could not be judged, each reason once."""
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for step in trajectory.steps:
        for name, reason in step.reasons.items():
            reasons.setdefault((step.verdicts[name], reason), {})[name] = None
    for (verdict, reason), names in reasons.items():
        yield verdict.lower(), f"{', '.join(names)}: {reason}"


def _assumed(trajectory: TrajectoryResult, judged: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield "bisection", "assumes that an assertion breaks and holds again at most once; both ends were audited"
    found = {name: spells(trajectory.seen(name)) for name in judged}
    if never := sum(not spell for spell in found.values()):
        yield "", f"{never} were not broken at any audited checkpoint: breaks in between are not detected"
    if left := [name for name in judged if set(trajectory.seen(name).values()) & set(NOT_JUDGED)]:
        yield "", f"not searched, because they could not be judged at every checkpoint: {', '.join(left)}"
    if often := [name for name, spell in found.items() if len(spell) > 1]:
        yield "", f"not true of {', '.join(often)}: audit every checkpoint, without --bisect"


def _conclusion(trajectory: TrajectoryResult) -> tuple[str, str]:
    last = next((step for step in reversed(trajectory.steps) if not step.problem), None)
    if last is None:
        said, verdict = "no checkpoint could be read", ""
    else:
        counts = Counter(last.verdicts.values())
        said = ", ".join(f"{counts[verdict]} {verdict.lower()}" for verdict in Outcome if counts[verdict])
        verdict = last.overall or ""
        said = f"{_step_name(last.checkpoint)}: {said}{f'; {verdict}: {last.why}' if verdict else ''}"
    (line,) = table([("last", said)], _LABELS)
    return line, verdict


def _short(step: CheckpointOfRun) -> str:
    return "final" if step.step is None else str(step.step)


def _step_name(checkpoint: str) -> str:
    number = step_of(checkpoint)
    return "the final weights" if number is None else f"step {number}"
