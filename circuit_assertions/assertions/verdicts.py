"""Verdicts, and what they rest on."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.measures.figures import Figure
from circuit_assertions.measures.intervals import ALONE, Level
from circuit_assertions.measures.reading import Interval, Reading
from circuit_assertions.verdict_words import Outcome

__all__ = ["Finding", "Judgement", "Row", "Verdict", "worst"]


class Verdict(enum.Enum):
    """HELD: the interval lies on the good side. BROKEN: on the bad side. UNRESOLVED: the bound lies inside it."""

    HELD = Outcome.HELD
    BROKEN = Outcome.BROKEN
    UNRESOLVED = Outcome.UNRESOLVED

    def __str__(self) -> str:
        return self.value


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of conditions that must all hold."""
    for verdict in (Verdict.BROKEN, Verdict.UNRESOLVED):
        if verdict in verdicts:
            return verdict
    return Verdict.HELD


@dataclass(frozen=True)
class Finding:
    """One condition judged: what was expected, and what was read where that is not the mean itself.

    Attributes:
        size: how far it is from what was expected, by which rows of one verdict are put in order; 0 for no order.
    """

    verdict: Verdict
    expected: str
    read: str = ""
    size: float = 0.0


@dataclass(frozen=True)
class Row:
    """One head (or the whole model, or a mean of heads) judged.

    Attributes:
        name: `L9H9`, `mean of 3 heads`, or empty for measures that have no heads.
        baseline: mean of the same reading on the baseline, where there is one.
        amplified: whether it holds and lies far above the baseline.
    """

    name: str
    mean: float
    interval: Interval
    verdict: Verdict
    findings: tuple[Finding, ...]
    baseline: float | None = None
    amplified: bool = False


@dataclass(frozen=True)
class Judgement:
    """An assertion judged.

    Attributes:
        expected: the expectation in words, quantifier included.
        rows: what was judged, the most telling first: the worst where each head must hold, the best where some must.
        reading: what the verdict rests on.
        not_judged: conditions that were left out, each with the reason.
        of_some: whether some of the heads were enough.
        low_is_good: whether the expectation asks for low values.
        recovered: the recovered share of what the corrupted checkpoint had lost of the reading; None where there is no
            such checkpoint, or it has lost nothing.
        assumed: the circuit that named the heads, where its lineage is only assumed to be the model's.
        level: how sure each row's interval is.
        strata: the judgement on each kind of template, where these disagree.
        budget: how many prompts it could have taken; None where their number was fixed.
        enough: about how many prompts would decide what is UNRESOLVED; None where that cannot be said.
        across: of comparisons with readings of another setting, both settings and the tolerance that was added.
        without_chat: the judgement on the same prompts without their chat template, where its verdict is another one;
            the error, where they could not be judged.
        short: why the record of the baseline does not decide it: it has too few prompts; else empty.
    """

    verdict: Verdict
    expected: str
    rows: tuple[Row, ...]
    reading: Reading
    not_judged: tuple[str, ...] = field(default=())
    of_some: bool = False
    low_is_good: bool = False
    recovered: Figure | None = None
    assumed: str = ""
    level: Level = field(default=ALONE)
    strata: Mapping[str, Judgement] = field(default_factory=dict)
    budget: int | None = None
    enough: int | None = None
    across: tuple[str, ...] = ()
    without_chat: Judgement | CircuitAssertionsError | None = None
    short: str = ""

    @property
    def amplified(self) -> bool:
        """HELD, and far above the baseline."""
        return self.verdict is Verdict.HELD and any(row.amplified for row in self.rows)
