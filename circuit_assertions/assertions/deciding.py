"""What is told of a judgement besides its verdict: how many prompts would decide it, and whether templates disagree.

Both judge again: the prompts taken several times over, or those of each kind of template alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from circuit_assertions.assertions.expectation import Expectation
from circuit_assertions.assertions.judging import judge
from circuit_assertions.assertions.verdicts import Judgement, Verdict
from circuit_assertions.measures.intervals import ALONE, Level, least_prompts
from circuit_assertions.measures.reading import Reading

__all__ = ["Readings", "disagreeing", "prompts_to_decide", "strata_of"]

_TIMES = (1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_MOST_VALUES = 4_000_000  # of one reading: 32 MB


@dataclass(frozen=True)
class Readings:
    """What an assertion is judged by; see `judge`."""

    reading: Reading
    expect: Expectation
    needed: int | str
    baseline: Reading | None = None
    everyone: Reading | None = None
    level: Level = ALONE

    def judged(self, rows: Sequence[int], among: int = 1) -> Judgement | None:
        """The judgement on some of the prompts, each of which may come several times.

        Args:
            among: how many such judgements share the level.
        """
        own, before, everyone = (
            None if one is None else one.of_prompts(rows) for one in (self.reading, self.baseline, self.everyone)
        )
        assert own is not None
        level = self.level.among(among)
        return judge(own, self.expect, self.needed, baseline=before, everyone=everyone, level=level)


def prompts_to_decide(read: Readings) -> int | None:
    """About how many prompts would decide an assertion that is UNRESOLVED, if further ones read as these do.

    Returns:
        None where not even 32 times as many would.
    """
    prompts = read.reading.prompts
    largest = max(one.values.size for one in (read.reading, read.everyone) if one is not None)
    for times in _TIMES:
        if times * largest > _MOST_VALUES:
            break
        count = round(times * prompts)
        judged = read.judged([row % prompts for row in range(count)])
        if judged is not None and judged.verdict is not Verdict.UNRESOLVED:
            return count
    return None


def disagreeing(read: Readings) -> Mapping[str, Judgement]:
    """The judgements on the prompts of each kind of template, where one is HELD and another BROKEN; else nothing."""
    strata = strata_of(read.reading.templates, least_prompts(read.level))
    told = {name: read.judged(rows, among=len(strata)) for name, rows in strata.items()}
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
