"""The result of the whole run: PASS or FAIL in one line, and what to do next. No pytest in here, only counts."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from circuit_assertions.results import AssertionResult
from circuit_assertions.results.audit import GateVerdict
from circuit_assertions.verdict_words import NOT_JUDGED, GateResult, Outcome

__all__ = ["FAILED", "Gate", "Rules", "fails"]

FAILED = GateResult.FAIL.exit.code  # pytest's own code for tests that failed
_NO_TESTS = 5
_CODES = {2: "interrupted", 3: "internal error of pytest", 4: "mistake in the command", _NO_TESTS: "no tests collected"}
_WORST = (Outcome.ERROR, Outcome.BROKEN)
_WORST_FIRST = (*_WORST, *(word for word in Outcome if word not in _WORST))


@dataclass(frozen=True)
class Rules:
    """How the options treat outcomes that do not fail by themselves: `report` or `fail`."""

    unresolved: str = "report"
    skipped: str = "report"

    def fails(self, word: Outcome) -> bool:
        """Whether an option makes this outcome fail."""
        return bool(word.exit.option) and getattr(self, word.exit.option) == "fail"


def fails(line: AssertionResult, rules: Rules) -> bool:
    """Whether one assertion fails the gate."""
    if not line.outcome or line.counted != line.outcome:
        return False
    word = Outcome.of(line.outcome)
    if not (word.exit.code or word.exit.option):
        return False
    if word.exit.code or line.expired or (word == Outcome.SKIPPED and line.required):
        return True
    return rules.fails(word)


@dataclass(frozen=True)
class Gate:
    """Everything that the gate's outcome follows from.

    Attributes:
        lines: one for each assertion that was selected.
        others_failed: tests and fixtures outside the suites that failed.
        audits_passed: Python tests of a checkpoint that passed.
        not_collected: files that could not be collected.
        diagnosed: whether a diagnosis is printed above.
        lost: the verdict of a diagnosis, DEGRADED or CORRUPTED, that fails the run; empty where none does.
        baseline: for the command that diagnoses; empty where there is none.
        unwritten: files about the audit that were asked for and could not be written.
    """

    rules: Rules
    lines: Sequence[AssertionResult]
    others_failed: int = 0
    audits_passed: int = 0
    not_collected: int = 0
    diagnosed: bool = False
    lost: str = ""
    baseline: str = ""
    unwritten: int = 0
    counts: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", Counter(line.counted for line in self.lines))

    @property
    def nothing_judged(self) -> bool:
        """Whether assertions were selected, and none was judged. It has no meaning for a run that was cut short."""
        return bool(self.lines) and all(line.outcome in NOT_JUDGED for line in self.lines)

    def code(self, code: int) -> int:
        """The exit code of the run, from pytest's own."""
        failing = self.nothing_judged or bool(self.lost) or any(fails(line, self.rules) for line in self.lines)
        return FAILED if code == 0 and failing else code

    def verdict(self, code: int) -> GateVerdict:
        """The outcome of the run as its result has it.

        Args:
            code: the run's exit code, from `code`.
        """
        return GateVerdict(passed=code == 0, exit_code=code, line=self.line(code))

    def line(self, code: int) -> str:
        """`GATE: PASS (21 held, 2 unresolved, 6 skipped)`.

        Args:
            code: the run's exit code, from `code`.
        """
        if code == 0 and not self.lines and not self.audits_passed:
            return "GATE: not judged (no assertion of a suite was selected)"
        said = ", ".join([*(self._reasons(code) if code else ()), *self._counted(code)])
        result = GateResult.FAIL if code else GateResult.PASS
        return f"GATE: {result} ({said or f'exit code {code}'})"

    def _counted(self, code: int) -> Iterator[str]:
        """The counts; where the gate fails, what fails it first."""
        failing = {line.counted for line in self.lines if fails(line, self.rules)}
        for word in sorted(_WORST_FIRST, key=lambda word: word not in failing) if code else Outcome:
            if count := self.counts[word]:
                required = sum(line.required for line in self.lines if line.counted == word == Outcome.SKIPPED)
                late = sum(line.expired for line in self.lines if line.counted == word != Outcome.HELD)
                note = f" ({required} required)" if required else ""
                note += f" ({late} with an expired waiver)" if late else ""
                yield f"{count} {word.said}{note}"
        if self.audits_passed:
            yield f"{self.audits_passed} Python {_tests(self.audits_passed)} passed"

    def _reasons(self, code: int) -> Iterator[str]:
        """Why it fails, if the counts do not show it."""
        if self.not_collected:
            yield f"{self.not_collected} {'file' if self.not_collected == 1 else 'files'} could not be collected"
        elif code != FAILED and not (code == 2 and self._stopped_early):
            yield _CODES.get(code, f"exit code {code}")
        if code == FAILED and self.nothing_judged:
            yield "nothing was judged"
        if self.others_failed:
            yield f"{self.others_failed} other {_tests(self.others_failed)} failed"
        if self.lost:
            yield f"the diagnosis is {self.lost}"
        if self.unwritten:
            yield f"{self.unwritten} {'file' if self.unwritten == 1 else 'files'} could not be written"
        explained = self.others_failed or self.lost or self.nothing_judged or self.unwritten
        if code == FAILED and not explained and not any(fails(line, self.rules) for line in self.lines):
            yield "pytest's exit code is 1"

    @property
    def _stopped_early(self) -> bool:
        """pytest-xdist calls a run interrupted that `-x` has stopped."""
        return any(fails(line, self.rules) for line in self.lines) or self.others_failed > 0

    def next(self, code: int) -> str:
        """What to do next, in one line; empty where there is nothing to do."""
        failing = [line for line in self.lines if fails(line, self.rules)]
        worst = sorted(failing, key=lambda line: _WORST_FIRST.index(line.counted))
        if self.not_collected:
            return "next: correct the files named above; `circuit-assertions validate` checks suites without a model"
        if worst:
            return f"next: {self._advice(worst[0])}"
        if self.others_failed:
            return "next: see the failures above"
        if self.lost:
            return "next: the circuit diagnosis above shows what is weaker than on the baseline"
        return f"next: {hints}" if (hints := "; ".join(self._hints())) else ""

    def _advice(self, line: AssertionResult) -> str:
        again = f"; reproduce: {line.command}" if line.command else ""
        if line.outcome == Outcome.ERROR:
            return f"{line.id} could not be judged: fix the error shown above{again}"
        if line.expired:
            return f"the waiver of {line.id} has expired: fix the model, or extend the waiver{again}"
        if line.outcome == Outcome.SKIPPED:
            return f"{line.id} must not be skipped: {line.way_out or line.reason}"
        if line.outcome == Outcome.UNRESOLVED and line.short:
            return f"{line.id} is not decided: {line.short}"
        if line.outcome == Outcome.UNRESOLVED:
            return f"{line.id} is too close to its bound to decide: raise `prompts:` of its task{again}"
        if self.diagnosed:
            return f"the circuit diagnosis above shows what changed{again}"
        if self.baseline:
            both = shlex.join([f"--model={line.model}", f"--baseline={self.baseline}"])
            return f"circuit-assertions diagnose {both}{again}"
        return f"give --baseline=path/ for a diagnosis of what changed{again}"

    def _hints(self) -> Iterator[str]:
        """What would get more assertions judged, and which waivers are not needed any more."""
        if self.counts[Outcome.NOT_RUN]:
            yield f"run again for the {self.counts[Outcome.NOT_RUN]} that were not run"
        unresolved = [line for line in self.lines if line.counted == Outcome.UNRESOLVED]
        if short := next((line.short for line in unresolved if line.short), ""):
            yield short
        elif unresolved:
            yield f"raise `prompts:` to settle the {len(unresolved)} unresolved"
        ways_out = Counter(line.way_out for line in self.lines if line.counted == Outcome.SKIPPED and line.way_out)
        for way_out, count in ways_out.most_common(1):
            yield f"to judge {count} of the {self.counts[Outcome.SKIPPED]} skipped: {way_out}"
        if held := [line.id for line in self.lines if line.outcome == Outcome.HELD and line.waiver is not None]:
            yield f"remove the waiver of {', '.join(held)}, which held"


def _tests(count: int) -> str:
    return "test" if count == 1 else "tests"
