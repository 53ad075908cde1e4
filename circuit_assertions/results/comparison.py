"""The result of comparing two records, and the trend over several of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from circuit_assertions.results.base import Part, Result
from circuit_assertions.results.values import Figure

__all__ = [
    "AssertionCompared",
    "AssertionTrend",
    "ComparisonResult",
    "DiagnosisCompared",
    "ReadingChange",
    "RunCompared",
    "TrendResult",
]

ChangeKind = Literal["same", "stronger", "weaker", "reversed"]


class RunCompared(Part):
    """A run that was compared.

    Attributes:
        record: the name of its record; empty for a run that was not written.
        models: its checkpoints.
        gate: the line of its gate.
    """

    record: str
    label: str
    models: tuple[str, ...]
    fingerprints: tuple[str, ...]
    gate: str


class ReadingChange(Part):
    """How one column of a reading changed.

    Attributes:
        name: a head or other component, `mean of 4 heads`, or empty for a measure of the whole model.
        role: of the head, where a diagnosis of one of the runs says it.
        before, after: means over the prompts that were compared.
        difference: after less before, with the interval that all comparisons share their level with.
        kind: `stronger` is further from zero, `weaker` nearer to it; `same` where the interval contains zero.
    """

    name: str
    role: str = ""
    before: float
    after: float
    difference: Figure
    kind: ChangeKind


class AssertionCompared(Part):
    """One assertion in both runs.

    Attributes:
        model: the checkpoint of the later run.
        before, after: outcomes.
        paired: whether the same prompts were compared, prompt by prompt.
        prompts: how many of each run were compared.
        compared: how many columns were.
        changes: those that changed, the largest first; and those that a verdict rests on, also if they are the same.
        reason: why the readings were not compared; empty where they were.
        fails: which conditions of --fail it meets.
    """

    suite: str
    id: str
    model: str
    before: str
    after: str
    measure: str = ""
    unit: str = ""
    paired: bool = False
    prompts: tuple[int, int] = (0, 0)
    compared: int = 0
    changes: tuple[ReadingChange, ...] = ()
    reason: str = ""
    fails: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the outcome or a reading changed."""
        return self.before != self.after or any(change.kind != "same" for change in self.changes)


class DiagnosisCompared(Part):
    """The verdict of a diagnosis in both runs; None where a run has none."""

    circuit: str
    model: str
    before: str | None
    after: str | None


class ComparisonResult(Result):
    """Two runs compared.

    Attributes:
        verdict: SAME, CHANGED, REGRESSED or NOT COMPARABLE.
        reason: why they are not comparable; else empty.
        fail: the conditions by which an assertion is a regression.
        notes: what differs between the runs besides what was measured.
        confidence: that no interval of all comparisons misses; `level` is that of each alone, `together` their number.
        assertions: those of both runs, in the order of the later one.
        only_before, only_after: assertions of one run alone.
    """

    kind: Literal["comparison"] = "comparison"
    before: RunCompared
    after: RunCompared
    verdict: str
    reason: str = ""
    fail: str
    notes: tuple[str, ...] = ()
    confidence: float | None = None
    level: float | None = None
    together: int = 0
    assertions: tuple[AssertionCompared, ...] = ()
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()
    diagnoses: tuple[DiagnosisCompared, ...] = ()


class AssertionTrend(Part):
    """One assertion over several runs.

    Attributes:
        subject: what is read, in words.
        row: the head, or the mean of heads, that is followed: the one that decided in the first run that has it.
        outcomes: of each run; None where the run does not have it.
        figures: the reading in each run; None where there is none.
    """

    suite: str
    id: str
    subject: str
    unit: str
    row: str
    outcomes: tuple[str | None, ...]
    figures: tuple[Figure | None, ...]


class TrendResult(Result):
    """Several runs in order.

    Attributes:
        runs: one for each checkpoint of each record.
        first_and_last: the comparison of the first with the last; its verdict is that of the whole.
    """

    kind: Literal["trend"] = "trend"
    runs: tuple[RunCompared, ...]
    assertions: tuple[AssertionTrend, ...] = Field(default=())
    first_and_last: ComparisonResult
