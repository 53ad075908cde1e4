"""What the bounds of DEGRADED are set by: the harmless setting cases of the benchmark of verdicts.

Their results are kept in a file of their own, as they were when the bounds were set: with the bounds that they gave,
the code is another. `python -m benchmarks.quality --seeds setting --results benchmarks/quality_setting.jsonl`
takes them again, and a test compares the policy with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from benchmarks.quality_figures import Ran, joined
from benchmarks.quality_results import Results
from circuit_assertions.policy import DEFAULT
from circuit_assertions.verdict_words import Overall

__all__ = ["HEADING", "IN_POLICY", "SETTING", "Reach", "reaches", "rows", "setting_cases"]

SETTING = Path(__file__).with_name("quality_setting.jsonl")

_DEVIATIONS = 3.0  # one in a thousand normal values lies further below their mean
IN_POLICY = {"the behaviour": DEFAULT.degraded_below, "the lowest active role": DEFAULT.degraded_role_below}
HEADING = (
    "upper ends of intervals, harmless setting cases",
    *("cases", "lowest", "fine-tuned: mean (deviation)", "bound", f"{Overall.DEGRADED} below, in the policy"),
)


@dataclass(frozen=True)
class Reach:
    """How low the upper ends of intervals come in harmless setting cases; DEGRADED begins below.

    Attributes:
        lowest: of all cases.
        mean, spread: of the fine-tuned ones, with their standard deviation.
        cases: how many there are, of any kind.
    """

    lowest: float
    mean: float
    spread: float
    cases: int

    @property
    def bound(self) -> float:
        """What no harmless case reaches, nor would one in a thousand normal ones; to two digits, rounded down."""
        return math.floor(100 * min(self.lowest, self.mean - _DEVIATIONS * self.spread)) / 100


def reaches(setting: Sequence[Ran]) -> dict[str, Reach]:
    """Of the behaviour, and of the lowest active role, in the harmless setting cases that were diagnosed."""
    harmless = [one for one in setting if one.case.group == "harmless" and "highs" in one.line]
    told = {}
    for index, name in enumerate(IN_POLICY):
        ends = {one: one.line["highs"][index] for one in harmless if len(one.line["highs"]) > index}
        tuned = [end for one, end in ends.items() if one.case.real]
        if len(tuned) > 1:
            told[name] = Reach(min(ends.values()), mean(tuned), stdev(tuned), len(ends))
    return told


def setting_cases() -> list[Ran]:
    """The setting cases by which the bounds were set."""
    return joined(Results.read(SETTING), "setting")


def rows(setting: Sequence[Ran]) -> list[tuple[str, ...]]:
    """The rows of the table with that heading."""
    return [
        (
            name,
            str(of.cases),
            f"{of.lowest:.3f}",
            f"{of.mean:.3f} ({of.spread:.3f})",
            f"{of.bound:g}",
            f"{IN_POLICY[name]:g}",
        )
        for name, of in reaches(setting).items()
    ]
