"""The result of an audit: the checkpoints, every assertion with what it was judged by, and the gate.

Under pytest-xdist it crosses from the workers to the controller assertion by assertion, as `Reported`.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from circuit_assertions.results.base import Part, Result
from circuit_assertions.results.circuit_shown import CircuitShown
from circuit_assertions.results.diagnosis import DiagnosisResult
from circuit_assertions.results.rows import FindingResult, HeadFinding, Stratum, WithoutChat
from circuit_assertions.results.values import CheckpointFacts, Figure, Reading
from circuit_assertions.verdict_words import Outcome

__all__ = [
    "AssertionResult",
    "AuditResult",
    "AuditedModel",
    "FindingResult",
    "GateVerdict",
    "HeadFinding",
    "MetLimit",
    "ModelLimit",
    "ReadingCounts",
    "RefusedTest",
    "Reported",
    "Stratum",
    "Waiver",
    "WithoutChat",
    "WorstPrompts",
]


class WorstPrompts(Part):
    """The prompts that lie furthest on the bad side.

    Attributes:
        which: whether high or low values are the bad ones.
        row: of which row they are.
        prompts: their texts with their values, the worst first.
    """

    which: Literal["highest", "lowest"]
    row: str
    prompts: tuple[tuple[float, str], ...]


class Waiver(Part):
    """An excuse for an assertion that is known not to hold.

    Attributes:
        until: its last day.
        expired: whether that was over when the assertion was judged.
    """

    until: date
    reason: str
    expired: bool


class MetLimit(Part):
    """The limit of a model by which something could not be measured.

    Attributes:
        name: as the facts of the checkpoint call it: `outputs, writes`, of another model with its name.
        measure: what it refuses.
    """

    name: str
    measure: str


class AssertionResult(Part):
    """The outcome of one assertion on one checkpoint.

    Attributes:
        suite: its file, as the user would type it.
        line: where it stands in the file, from 1; None where that is not known.
        outcome: HELD, BROKEN, UNRESOLVED, SKIPPED, ERROR or NOT RUN; empty until it is known.
        subject: what is read, in words: `direct-effect of name-mover`.
        expected: the expectation in words, quantifier included.
        rows: what was judged, the decisive row first.
        of_some: whether some of the heads were enough.
        reading: what the verdict rests on; None where nothing was judged.
        recovered: the recovered share of what the corrupted checkpoint had lost of the reading.
        not_judged: conditions that were left out, each with the reason.
        assumed: the circuit that named the heads, where its lineage is only assumed to be the model's.
        confidence: that no interval of the suite misses.
        level: the confidence of each interval of the rows alone.
        strata: the judgement on each kind of template, where one holds and another is broken.
        budget: how many prompts could be asked at most; None where their number was fixed.
        enough: about how many prompts would decide what is UNRESOLVED; None where that cannot be said.
        across: of comparisons with readings of another dtype or device, both settings and the tolerance that was added.
        without_chat: of a task with a chat template, the verdict without it, where it differs.
        short: why the record of the baseline does not decide it: it has too few prompts; else empty.
        worst: of an assertion that does not hold.
        reason: why it was skipped, or could not be read.
        limit: the limit of a model by which it could not be read; None where that was not why.
        way_out: what the user can do to have a skipped assertion judged.
        why: what it means when it breaks, in the suite's words.
        required: whether it must not be skipped.
        command: what runs this assertion alone again.
    """

    model: str
    suite: str
    id: str
    line: int | None = None
    outcome: str = ""
    measure: str = ""
    subject: str = ""
    expected: str = ""
    rows: tuple[HeadFinding, ...] = ()
    of_some: bool = False
    reading: Reading | None = None
    amplified: bool = False
    recovered: Figure | None = None
    not_judged: tuple[str, ...] = ()
    assumed: str = ""
    confidence: float | None = None
    level: float | None = None
    strata: dict[str, Stratum] = Field(default_factory=dict)
    budget: int | None = None
    enough: int | None = None
    across: tuple[str, ...] = ()
    without_chat: WithoutChat | None = None
    short: str = ""
    worst: WorstPrompts | None = None
    reason: str = ""
    limit: MetLimit | None = None
    way_out: str = ""
    why: str = ""
    required: bool = False
    waiver: Waiver | None = None
    command: str = ""

    @property
    def expired(self) -> bool:
        """Whether it has a waiver that has expired."""
        return self.waiver is not None and self.waiver.expired

    @property
    def counted(self) -> str:
        """What the gate counts it as: WAIVED where it is not held and a waiver in force excuses that."""
        never = (Outcome.HELD, Outcome.ERROR, Outcome.NOT_RUN, "")
        excused = self.waiver is not None and not self.expired and self.outcome not in never
        return Outcome.WAIVED if excused else self.outcome

    def without_values(self) -> AssertionResult:
        """The same without the values of single prompts, which are most of its size."""
        if self.reading is None:
            return self
        return self.model_copy(update={"reading": self.reading.model_copy(update={"values": {}})})


class ModelLimit(Part):
    """What a model does not allow, whichever measures it refuses.

    Attributes:
        name: the facts that do not hold: `outputs, writes`; of the baseline with its name.
    """

    name: str
    reason: str


class RefusedTest(Part):
    """A Python test that failed by a limit of a model."""

    test: str
    limit: MetLimit


class AuditedModel(Part):
    """What is known of an audited checkpoint.

    Attributes:
        facts, baseline: None where it, or the baseline, was not opened.
        settings: how its settings differ from the baseline's in what changes the model's function.
        unfit: why the corrupted checkpoint could not be compared with the baseline; empty where it could.
        circuits: the circuit files that bound roles.
        limits: why some measures cannot be taken on it.
        refused: Python tests that failed by these, in the order of their files.
        warnings: circuit files that could not be read.
    """

    model: str
    facts: CheckpointFacts | None = None
    baseline: CheckpointFacts | None = None
    settings: tuple[str, ...] = ()
    corrupted: str = ""
    unfit: str = ""
    circuits: tuple[str, ...] = ()
    limits: tuple[ModelLimit, ...] = ()
    refused: tuple[RefusedTest, ...] = ()
    warnings: tuple[str, ...] = ()

    def joined(self, later: AuditedModel) -> AuditedModel:
        """What is known by this and by what was reported later."""
        lists = {
            name: tuple(dict.fromkeys([*getattr(self, name), *getattr(later, name)]))
            for name in ("settings", "circuits", "limits", "warnings")
        }
        first = {name: getattr(self, name) or getattr(later, name) for name in ("facts", "baseline", "corrupted")}
        return self.model_copy(update={**lists, **first, "unfit": later.unfit or self.unfit})


class ReadingCounts(Part):
    """How many readings a run took, and how many it has from the cache, of all checkpoints together."""

    taken: int = 0
    cached: int = 0

    @property
    def all(self) -> int:
        """All of them."""
        return self.taken + self.cached

    def __add__(self, other: ReadingCounts) -> ReadingCounts:
        return ReadingCounts(taken=self.taken + other.taken, cached=self.cached + other.cached)


class Reported(Part):
    """What the report of one test says of the audit.

    Attributes:
        assertions: the assertion of a suite, or all expectations of a Python test.
        of_suite: whether it is an assertion of a suite.
        model: None where the checkpoint could not be read.
        reason: an error in full, also where the report only points at the first one of its kind.
        limit: the limit of a model by which the test failed, which `model` has the reason of.
        readings: those of the test; told once, with its last report.
    """

    assertions: tuple[AssertionResult, ...] = ()
    of_suite: bool = True
    model: AuditedModel | None = None
    reason: str = ""
    limit: MetLimit | None = None
    readings: ReadingCounts = Field(default_factory=ReadingCounts)

    def without_values(self) -> Reported:
        """The same without the values of single prompts."""
        return self.model_copy(update={"assertions": tuple(one.without_values() for one in self.assertions)})


class GateVerdict(Part):
    """The outcome of the run: whether it passes, its exit code, and the gate's line."""

    passed: bool
    exit_code: int
    line: str


class AuditResult(Result):
    """The audit of one pytest session.

    Attributes:
        baseline, corrupted: as they were named.
        runs: the training runs among the models, each in order.
        models: those of which something was judged, or refused by a limit.
        assertions: in the order of their suites; what was not run comes last.
        diagnoses: those that were made after the verdicts.
        circuits: heads and attention, for reports; empty where no report was asked for.
        readings: how many were taken, and how many came from the cache.
    """

    kind: Literal["audit"] = "audit"
    baseline: str | None = None
    corrupted: str | None = None
    runs: tuple[tuple[str, ...], ...] = ()
    models: tuple[AuditedModel, ...] = ()
    assertions: tuple[AssertionResult, ...] = ()
    diagnoses: tuple[DiagnosisResult, ...] = ()
    circuits: tuple[CircuitShown, ...] = ()
    readings: ReadingCounts = Field(default_factory=ReadingCounts)
    gate: GateVerdict
