"""What is told of a judgement besides its verdict: how many prompts would decide it, and whether templates disagree.

Both judge again: the prompts taken several times over, or those of each kind of template alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from circuit_assertions.assertions.expectation import Expectation
from circuit_assertions.assertions.judging import describe, judge
from circuit_assertions.assertions.verdicts import Finding, Judgement, Row, Verdict
from circuit_assertions.measures.intervals import ALONE, Level, least_prompts
from circuit_assertions.measures.reading import Reading
from circuit_assertions.measures.tolerances import Tolerances
from circuit_assertions.policy import DEFAULT, Policy

__all__ = ["MOST_TIMES", "Readings", "disagreeing", "prompts_to_decide", "strata_of", "with_notes"]

MOST_TIMES = 32  # as many prompts as were read
_TIMES = (1.5, 2, 3, 4, 6, 8, 12, 16, 24, MOST_TIMES)
_MOST_VALUES = 4_000_000  # of one reading: 32 MB


@dataclass(frozen=True)
class Readings:
    """What an assertion is judged by; see `judge`.

    Attributes:
        short: why there is no reading of the baseline, where its record has too few prompts.
    """

    reading: Reading
    expect: Expectation
    needed: int | str
    baseline: Reading | None = None
    everyone: Reading | None = None
    level: Level = ALONE
    policy: Policy = DEFAULT
    tolerances: Tolerances | None = None
    short: str = ""

    def judged(self) -> Judgement | None:
        """The judgement."""
        judged = self._judged()
        return _without_baseline(self, judged) if self.short else judged

    def _judged(self) -> Judgement | None:
        return judge(
            self.reading,
            self.expect,
            self.needed,
            baseline=self.baseline,
            everyone=self.everyone,
            level=self.level,
            policy=self.policy,
            tolerances=self.tolerances,
        )

    def of_prompts(self, rows: Sequence[int], among: int = 1) -> Readings:
        """Those of some of the prompts, each of which may come several times.

        Args:
            among: how many such judgements share the level.
        """
        before, everyone = (None if one is None else one.of_prompts(rows) for one in (self.baseline, self.everyone))
        own, level = self.reading.of_prompts(rows), self.level.among(among)
        return replace(self, reading=own, baseline=before, everyone=everyone, level=level)


def with_notes(read: Readings, judged: Judgement) -> Judgement:
    """A last judgement, with what is told of it besides its verdict."""
    if judged.short:
        return judged
    enough = prompts_to_decide(read) if judged.verdict is Verdict.UNRESOLVED else None
    return replace(judged, enough=enough, strata=disagreeing(read))


def _without_baseline(read: Readings, judged: Judgement | None) -> Judgement:
    """UNRESOLVED, unless what is not relative to the baseline is broken alone.

    Args:
        judged: by what is not relative to it; None where all of it is.
    """
    if judged is not None and judged.verdict is Verdict.BROKEN:
        return replace(judged, short=read.short)
    columns = read.reading.columns()
    level = read.level.among(len(columns)) if judged is None else judged.level
    expected = describe(read.expect, read.needed)
    open_ = Verdict.UNRESOLVED
    rows = tuple(
        Row(
            "" if component is None else str(component),
            float(values.mean()),
            read.reading.interval(values, level),
            open_,
            (Finding(open_, expected),),
        )
        for component, values in columns
    )
    if judged is not None:
        rows = tuple(replace(row, verdict=open_) for row in judged.rows)
    return Judgement(open_, expected, rows, read.reading, level=level, short=read.short)


def prompts_to_decide(read: Readings) -> int | None:
    """About how many prompts would decide an assertion that is UNRESOLVED, if further ones read as these do.

    Returns:
        None where not even `MOST_TIMES` as many would, or so many are too large to try.
    """
    prompts = read.reading.prompts
    largest = max(one.values.size for one in (read.reading, read.everyone) if one is not None)
    for times in _TIMES:
        if times * largest > _MOST_VALUES:
            break
        count = round(times * prompts)
        judged = read.of_prompts([row % prompts for row in range(count)]).judged()
        if judged is not None and judged.verdict is not Verdict.UNRESOLVED:
            return count
    return None


def disagreeing(read: Readings) -> Mapping[str, Judgement]:
    """The judgements on the prompts of each kind of template, where one is HELD and another BROKEN; else nothing."""
    strata = strata_of(read.reading.templates, least_prompts(read.level, read.policy))
    told = {name: read.of_prompts(rows, among=len(strata)).judged() for name, rows in strata.items()}
    judged = {name: judgement for name, judgement in told.items() if judgement is not None}
    verdicts = {judgement.verdict for judgement in judged.values()}
    return judged if {Verdict.HELD, Verdict.BROKEN} <= verdicts else {}


def strata_of(templates: Sequence[str], least: int) -> Mapping[str, Sequence[int]]:
    """The rows of each template where every one has enough prompts; else of each kind, the part before the slash.

    Args:
        templates: of each prompt, `ABBA/3`.
        least: how many prompts each must have.

    Returns:
        Nothing where there are too few of some kind, or there is only one.
    """
    for names in (templates, [template.partition("/")[0] for template in templates]):
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            rows.setdefault(name, []).append(row)
        if len(rows) > 1 and min(map(len, rows.values())) >= least:
            return dict(sorted(rows.items()))
    return {}
