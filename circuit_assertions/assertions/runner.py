"""Run the assertions of suites on checkpoints: take their readings, and judge them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.binding import Binder
from circuit_assertions.assertions.bounds import bounds_found_in
from circuit_assertions.assertions.circuits import Binding, Circuit, Roles
from circuit_assertions.assertions.deciding import Readings, with_notes
from circuit_assertions.assertions.errors import NothingToSayError
from circuit_assertions.assertions.looking import over_looks
from circuit_assertions.assertions.planned import NotApplicable, PlannedAssertion
from circuit_assertions.assertions.readings_needed import Requesting
from circuit_assertions.assertions.recalling import Recall, with_snapshot
from circuit_assertions.assertions.recovered_share import Recovering
from circuit_assertions.assertions.schema import Expectation
from circuit_assertions.assertions.thresholds import asks_circuit_file, same_prompts, take_over
from circuit_assertions.assertions.verdicts import Judgement
from circuit_assertions.assertions.without_chat import Taking, differing_without_chat
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.measures.intervals import Level
from circuit_assertions.measures.tolerances import IncomparableError, Setting, Tolerances, tolerance_between
from circuit_assertions.recorded import TooFewRecordedError
from circuit_assertions.request import Request
from circuit_assertions.tasks import Task

__all__ = ["PlannedAssertion", "NotApplicable", "SuiteRunner"]

_NO_BASELINE = "everything it expects is relative to a baseline: give one with --baseline=path/"


def _way_to(other: str) -> str:
    return f"give --{other}=path/"


@dataclass
class SuiteRunner:
    """Judges assertions in one audit, sharing passes among all that were announced.

    Attributes:
        compare: takes readings of measures that compare a model with its baseline, and with `corrupted`.
        tolerances: of comparisons between readings of different settings; without them these are refused.
        recall: compares readings with their snapshots; without it that is left out of what is expected.
        compares_chat: whether assertions are judged without their task's chat template too, to report other verdicts.
        binder: binds roles to heads; its `find` discovers a circuit that no file binds.
        requesting: says which readings an assertion needs.
    """

    audit: Audit
    baseline: Checkpoint | None = None
    compare: Callable[[str, Checkpoint, Task, str, Roles, str], Reading] | None = None
    corrupted: Checkpoint | None = None
    tolerances: Tolerances | None = None
    recall: Recall | None = None
    compares_chat: bool = False
    binder: Binder = field(init=False)
    requesting: Requesting = field(init=False)
    _planned: set[Checkpoint] = field(default_factory=set)
    _recovering: Recovering | None = None

    def __post_init__(self) -> None:
        self.binder = Binder(self.audit, self.baseline)
        self.requesting = Requesting(self.audit, self.binder)

    def announce(self, asked: Iterable[PlannedAssertion]) -> None:
        """Say what will be judged, before the first judgement."""
        self.binder.announced.extend(asked)

    def judge(self, asked: PlannedAssertion) -> Judgement | NotApplicable:
        """Judge one assertion, on more and more prompts until it is decided, where their number grows.

        Raises:
            CircuitAssertionsError: if the model, the task or the measure does not allow it.
        """
        return over_looks(asked.looks, self._judge_look)

    def _judge_look(self, asked: PlannedAssertion) -> Judgement | NotApplicable:
        """Judge it on the prompts of one look."""
        if self.baseline is None and asked.assertion.expect.only_relative:
            return NotApplicable(_NO_BASELINE, _way_to("baseline"))
        if MEASURES[asked.assertion.measure].compares:
            return self._compared(asked)
        requests = self.requesting.requests(asked)
        if isinstance(requests, NotApplicable):
            return requests
        self._plan(asked.checkpoint)
        expected = self.expected(asked, requests)
        if isinstance(expected, NotApplicable):
            return expected
        expect, left_out, refused = expected

        def readings(task: Task) -> Readings:
            own, *everyone = (self.audit.read(replace(one, task=task), asked.checkpoint) for one in requests)
            first = replace(requests[0], task=task)
            try:
                before = None if self.baseline is None else self.audit.read(first, self.baseline)
            except TooFewRecordedError as error:
                return replace(self._readings(asked, expect, own, None, *everyone), short=str(error))
            return self._readings(asked, expect, own, before, *everyone)

        judged = self._told(asked, readings)
        if isinstance(judged, Judgement):
            judged = replace(
                judged,
                not_judged=(*left_out, *judged.not_judged),
                assumed=self.binder.assumed(asked),
                across=(*refused, *judged.across),
            )
        return self._with_recovery(asked, judged, lambda checkpoint: self.audit.read(requests[0], checkpoint))

    def _readings(
        self,
        asked: PlannedAssertion,
        expect: Expectation,
        reading: Reading,
        baseline: Reading | None = None,
        everyone: Reading | None = None,
    ) -> Readings:
        policy, needed = self.audit.policy, asked.assertion.needed
        level = Level(policy.confidence).among(asked.together)
        return Readings(reading, expect, needed, baseline, everyone, level, policy, self.tolerances)

    def _told(self, asked: PlannedAssertion, readings: Taking) -> Judgement | NotApplicable | None:
        """The judgement at one look, and what is told of it unless more prompts are to come."""
        read = readings(asked.task)
        if isinstance(read, NotApplicable):
            return read
        judged = read.judged()
        if judged is not None and judged.across and self.tolerances is not None:
            self.tolerances.check_shape(self.audit.opened(asked.checkpoint).shape)
        if judged is None or asked.goes_on(judged.verdict):
            return judged
        without = differing_without_chat(asked, judged, readings) if self.compares_chat else None
        return replace(with_notes(read, judged), without_chat=without)

    def expected(
        self, asked: PlannedAssertion, requests: Sequence[Request]
    ) -> tuple[Expectation, tuple[str, ...], tuple[str, ...]] | NotApplicable:
        """What is expected of this very model: bounds taken over from its circuit file, and what it cannot be asked.

        Returns:
            The expectation, what is left out of it, and why bounds of the file are not used.
        """
        assertion, heads = asked.assertion, requests[0].heads
        if heads is not None and (assertion.at_least_heads or 0) > len(heads):
            return NotApplicable(f"at least {assertion.at_least_heads} heads are required, and there are {len(heads)}")
        expect, left_out, across = assertion.expect, tuple[str, ...](), tuple[str, ...]()
        if asks_circuit_file(expect):
            binding, usable = self._proposing(asked)
            expect, left_out = take_over(assertion, binding, usable)
            if refused := self._refused(asked, bounds_found_in(expect.conditions)):
                expect, left_out = take_over(assertion, binding, usable=False)
                across = (refused,)
        if len(requests) > 1:
            expect, never_fails = expect.among(len(requests[1].heads or ()))
            left_out += never_fails
        expect, not_kept = with_snapshot(
            asked, expect, self.recall, lambda task: self.audit.read(replace(requests[0], task=task), asked.checkpoint)
        )
        left_out += not_kept
        if expect.is_empty:
            return NotApplicable(f"no bound is left to judge: {'; '.join((*across, *left_out))}")
        return expect, left_out, across

    def _proposing(self, asked: PlannedAssertion) -> tuple[Binding | None, bool]:
        """The circuit whose thresholds may be taken over, and whether they were measured on what is the reference here.

        That is the baseline; without one, the model itself beside its own circuit file. What only fits by shape was
        measured on some other model, and a file made from the model under test would excuse its faults.
        """
        try:
            binding = self.binding(asked.checkpoint, asked.circuit, asked.circuits)
        except CircuitAssertionsError:  # none was discovered, or the model does not open: whoever needs it says so
            return None, False
        if binding is None or not binding.circuit.was_found_on(self.binder.fingerprints(asked.checkpoint)[-1]):
            return binding, False
        return binding, same_prompts(binding.circuit, self.audit.prompts(asked.task, asked.checkpoint).settings)

    def _refused(self, asked: PlannedAssertion, found_in: Setting | None) -> str:
        """Why bounds of a circuit file are not used, which were measured under another setting; empty if they are."""
        identity = self.audit.opened(asked.checkpoint).identity
        own = Setting(identity["dtype"], identity["device"])
        try:
            tolerance_between(asked.assertion.measure, own, found_in, self.tolerances)
        except IncomparableError as error:
            return f"the bound of the circuit file is not used: {error}"
        return ""

    def _with_recovery(
        self,
        asked: PlannedAssertion,
        judged: Judgement | NotApplicable | None,
        take: Callable[[Checkpoint], Reading | NotApplicable],
    ) -> Judgement | NotApplicable:
        """The judgement, and how much of the reading is recovered if there is a corrupted checkpoint."""
        if judged is None:
            return NotApplicable(_NO_BASELINE, _way_to("baseline"))
        if isinstance(judged, NotApplicable):
            return judged
        if self.baseline is None or self.corrupted is None or asked.goes_on(judged.verdict):
            return judged
        if self._recovering is None:
            self._recovering = Recovering(self.audit, self.baseline, self.corrupted)

        def allowed(checkpoint: Checkpoint) -> Reading | None:
            taken = take(checkpoint)
            return None if isinstance(taken, NotApplicable) else taken

        return replace(judged, recovered=self._recovering.share(judged, asked.assertion.needed, allowed))

    @property
    def unfit(self) -> str:
        """Why the corrupted checkpoint could not be compared with the baseline; empty where it could."""
        return "" if self._recovering is None else self._recovering.unfit

    def _compared(self, asked: PlannedAssertion) -> Judgement | NotApplicable:
        """Judge a measure that holds the model against other checkpoints."""
        assertion = asked.assertion
        lacking = self._lacking(assertion.measure)
        if lacking is not None:
            return lacking
        role = assertion.heads if isinstance(assertion.heads, str) else "circuit"
        roles: Roles = {}
        if MEASURES[assertion.measure].joint:
            bound = self.binder.bound(asked, role)
            if isinstance(bound, NotApplicable):
                return bound
            binding = self.binding(asked.checkpoint, asked.circuit, asked.circuits)
            roles = {} if binding is None else binding.circuit.roles

        def take(checkpoint: Checkpoint, task: Task = asked.task) -> Reading | NotApplicable:
            return self.compared(assertion.measure, checkpoint, task, asked.circuit, roles, role)

        def readings(task: Task) -> Readings | NotApplicable:
            reading = take(asked.checkpoint, task)
            return reading if isinstance(reading, NotApplicable) else self._readings(asked, expect, reading)

        expect, left_out = take_over(assertion, None, usable=False)  # no file proposes bounds for what compares
        if expect.is_empty:
            return NotApplicable(f"no bound is left to judge: {'; '.join(left_out)}")
        return self._with_recovery(asked, self._told(asked, readings), take)

    def compared(
        self, measure: str, checkpoint: Checkpoint, task: Task, circuit: str, roles: Roles, role: str
    ) -> Reading | NotApplicable:
        """A reading that compares a checkpoint with others; the reason, where they are not given or it has no value.

        Args:
            circuit: its name; with `roles`, the baseline's circuit.
            role: whose heads are read; `circuit` for all of them.
        """
        lacking = self._lacking(measure)
        if lacking is not None:
            return lacking
        assert self.compare is not None
        try:
            return self.compare(measure, checkpoint, task, circuit, roles, role)
        except NothingToSayError as reason:
            return NotApplicable(str(reason))

    def _lacking(self, measure: str) -> NotApplicable | None:
        given = {"baseline": self.baseline, "corrupted": self.corrupted}
        for other in MEASURES[measure].compares:
            if given[other] is None or self.compare is None:
                return NotApplicable(f"{measure} needs --{other}=path/ to compare the model with", _way_to(other))
        return None

    def binding(self, checkpoint: Checkpoint, name: str, circuits: Sequence[Circuit]) -> Binding | None:
        """The circuit that fits a checkpoint, remembered."""
        return self.binder.binding(checkpoint, name, circuits)

    @property
    def bindings(self) -> Mapping[tuple[Checkpoint, str, tuple[Path | None, ...]], Binding | None]:
        """Which circuit was bound for each checkpoint and circuit name, out of which files; None where none fits."""
        return self.binder.bindings

    @property
    def unread(self) -> tuple[str, ...]:
        """The notes about circuit files that could not be read, for any suite."""
        return self.binder.unread

    def forget(self, checkpoint: Checkpoint) -> None:
        """Close a checkpoint that is not needed any more. The baseline and the corrupted one are kept."""
        if checkpoint not in (self.baseline, self.corrupted):
            self.audit.forget(checkpoint)
            self._planned.discard(checkpoint)

    def _plan(self, checkpoint: Checkpoint) -> None:
        if checkpoint not in self._planned:
            self._planned.add(checkpoint)
            others = [other for other in (self.baseline, self.corrupted) if other is not None]
            self.requesting.plan(checkpoint, others, without_chat=self.compares_chat)
