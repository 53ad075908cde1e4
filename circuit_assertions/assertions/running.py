"""Run the assertions of suites on checkpoints: bind roles, take the readings, judge them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.circuits import Binding, Circuit, Circuits, Roles, bind, likely_meant, unread_of
from circuit_assertions.assertions.errors import NothingToSayError, SuiteError
from circuit_assertions.assertions.judging import judge
from circuit_assertions.assertions.loading import LoadedSuite
from circuit_assertions.assertions.naming import discover_command
from circuit_assertions.assertions.proposed import Proposed
from circuit_assertions.assertions.recovering import Recovering
from circuit_assertions.assertions.schema import Assertion, Expectation, ReceiverHeads
from circuit_assertions.assertions.thresholds import same_prompts, take_over
from circuit_assertions.assertions.verdicts import Judgement
from circuit_assertions.audit import Audit, Request
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.components import KINDS, Component, all_of
from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES, Reading, Receiver
from circuit_assertions.printable import printable
from circuit_assertions.tasks import END, TO_PATCH, Task

__all__ = ["Asked", "NotAsked", "SuiteRunner"]


_NO_BASELINE = "everything it expects is relative to a baseline: give one with --baseline=path/"


def _way_to(other: str) -> str:
    return f"give --{other}=path/"


@dataclass(frozen=True)
class Asked:
    """One assertion of a suite for one checkpoint."""

    suite: LoadedSuite
    assertion: Assertion
    checkpoint: Checkpoint
    circuits: tuple[Circuit, ...]


@dataclass(frozen=True)
class NotAsked:
    """Why an assertion does not apply to this model, though nothing is wrong with either.

    Attributes:
        way_out: what the user can do to have it judged; empty if nothing.
    """

    reason: str
    way_out: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", printable(self.reason))
        object.__setattr__(self, "way_out", printable(self.way_out))


@dataclass
class SuiteRunner:
    """Judges assertions in one audit, sharing passes among all that were announced.

    Attributes:
        bindings: which circuit was bound for each checkpoint and circuit name, out of which files; None where none
            fits.
        compare: takes readings of measures that compare a model with its baseline, and with `corrupted`.
        find: finds a circuit by name and task where no file binds it by fingerprint; None: no search.
    """

    audit: Audit
    baseline: Checkpoint | None = None
    find: Callable[[str, Task], Circuit] | None = None
    compare: Callable[[str, Checkpoint, Task, str, Roles, str], Reading] | None = None
    corrupted: Checkpoint | None = None
    bindings: dict[tuple[Checkpoint, str, tuple[Path | None, ...]], Binding | None] = field(default_factory=dict)
    _announced: list[Asked] = field(default_factory=list)
    _planned: set[Checkpoint] = field(default_factory=set)
    _recovering: Recovering | None = None

    def announce(self, asked: Iterable[Asked]) -> None:
        """Say what will be judged, before the first judgement."""
        self._announced.extend(asked)

    def judge(self, asked: Asked) -> Judgement | NotAsked:
        """Judge one assertion.

        Raises:
            CircuitAssertionsError: if the model, the task or the measure does not allow it.
        """
        if self.baseline is None and asked.assertion.expect.only_relative:
            return NotAsked(_NO_BASELINE, _way_to("baseline"))
        if MEASURES[asked.assertion.measure].compares:
            return self._compared(asked)
        requests = self._requests(asked)
        if isinstance(requests, NotAsked):
            return requests
        expected = self._expected(asked, requests)
        if isinstance(expected, NotAsked):
            return expected
        self._plan(asked.checkpoint)
        reading = self.audit.read(requests[0], asked.checkpoint)
        everyone = self.audit.read(requests[1], asked.checkpoint) if len(requests) > 1 else None
        baseline = self.audit.read(requests[0], self.baseline) if self.baseline is not None else None
        expect, left_out = expected
        judged = judge(reading, expect, asked.assertion.needed, baseline=baseline, everyone=everyone)
        if judged is not None:
            judged = replace(judged, not_judged=(*left_out, *judged.not_judged), assumed=self._assumed(asked))
        return self._with_recovery(asked, judged, lambda checkpoint: self.audit.read(requests[0], checkpoint))

    def _expected(self, asked: Asked, requests: Sequence[Request]) -> tuple[Expectation, tuple[str, ...]] | NotAsked:
        """What is expected of this very model: bounds taken over from its circuit file, and what it cannot be asked."""
        assertion, heads = asked.assertion, requests[0].heads
        if heads is not None and (assertion.at_least_heads or 0) > len(heads):
            return NotAsked(f"at least {assertion.at_least_heads} heads are required, and there are {len(heads)}")
        expect, left_out = assertion.expect, tuple[str, ...]()
        if isinstance(expect.at_least, Proposed) or isinstance(expect.at_most, Proposed):
            expect, left_out = take_over(assertion, *self._proposing(asked))
        ranked = requests[1].heads if len(requests) > 1 else None
        if ranked is not None and (expect.rank_within or 0) >= len(ranked):
            rank = f"rank within {expect.rank_within} (it can never fail: there are {len(ranked)} to rank)"
            expect, left_out = expect.model_copy(update={"rank_within": None}), (*left_out, rank)
        if expect.is_empty:
            return NotAsked(f"no bound is left to judge: {'; '.join(left_out)}")
        return expect, left_out

    def _proposing(self, asked: Asked) -> tuple[Binding | None, bool]:
        """The circuit whose thresholds may be taken over, and whether they were measured on what is the reference here.

        That is the baseline; without one, the model itself beside its own circuit file. What only fits by shape was
        measured on some other model, and a file made from the model under test would excuse its faults.
        """
        try:
            binding = self.binding(asked.checkpoint, asked.suite.circuit, asked.circuits)
        except CircuitAssertionsError:  # none was discovered, or the model does not open: whoever needs it says so
            return None, False
        if binding is None or not binding.circuit.was_found_on(self._fingerprints(asked.checkpoint)[-1]):
            return binding, False
        task = asked.suite.suite.tasks[asked.assertion.task]
        return binding, same_prompts(binding.circuit, self.audit.prompts(task, asked.checkpoint).settings)

    def _assumed(self, asked: Asked) -> str:
        """The circuit by which the assertion's roles were bound, where its lineage is assumed; empty otherwise."""
        assertion = asked.assertion
        receiver = assertion.receiver.heads if isinstance(assertion.receiver, ReceiverHeads) else None
        named = [role for role in (assertion.heads, receiver, assertion.without) if isinstance(role, str)]
        if all(role in ("any", "all") for role in named):
            return ""
        binding = self.binding(asked.checkpoint, asked.suite.circuit, asked.circuits)
        if binding is None or binding.certain:
            return ""
        return f"{binding}; find this model's own with `circuit-assertions discover`, or give its base with --baseline"

    def _with_recovery(
        self, asked: Asked, judged: Judgement | None, take: Callable[[Checkpoint], Reading | NotAsked]
    ) -> Judgement | NotAsked:
        """The judgement, and how much of the reading is recovered if there is a corrupted checkpoint."""
        if judged is None:
            return NotAsked(_NO_BASELINE, _way_to("baseline"))
        if self.baseline is None or self.corrupted is None:
            return judged
        if self._recovering is None:
            self._recovering = Recovering(self.audit, self.baseline, self.corrupted)

        def allowed(checkpoint: Checkpoint) -> Reading | None:
            taken = take(checkpoint)
            return None if isinstance(taken, NotAsked) else taken

        return replace(judged, recovered=self._recovering.share(judged, asked.assertion.needed, allowed))

    @property
    def unfit(self) -> str:
        """Why the corrupted checkpoint could not be compared with the baseline; empty where it could."""
        return "" if self._recovering is None else self._recovering.unfit

    def _compared(self, asked: Asked) -> Judgement | NotAsked:
        """Judge a measure that holds the model against other checkpoints."""
        assertion = asked.assertion
        lacking = self._lacking(assertion.measure)
        if lacking is not None:
            return lacking
        role = assertion.heads if isinstance(assertion.heads, str) else "circuit"
        roles: Roles = {}
        if MEASURES[assertion.measure].joint:
            bound = self._bound(asked, role)
            if isinstance(bound, NotAsked):
                return bound
            binding = self.binding(asked.checkpoint, asked.suite.circuit, asked.circuits)
            roles = {} if binding is None else binding.circuit.roles
        task = asked.suite.suite.tasks[assertion.task]

        def take(checkpoint: Checkpoint) -> Reading | NotAsked:
            return self.compared(assertion.measure, checkpoint, task, asked.suite.circuit, roles, role)

        reading = take(asked.checkpoint)
        if isinstance(reading, NotAsked):
            return reading
        expect, left_out = take_over(assertion, None, usable=False)  # no file proposes bounds for what compares
        if expect.is_empty:
            return NotAsked(f"no bound is left to judge: {'; '.join(left_out)}")
        return self._with_recovery(asked, judge(reading, expect, assertion.needed), take)

    def compared(
        self, measure: str, checkpoint: Checkpoint, task: Task, circuit: str, roles: Roles, role: str
    ) -> Reading | NotAsked:
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
            return NotAsked(str(reason))

    def _lacking(self, measure: str) -> NotAsked | None:
        given = {"baseline": self.baseline, "corrupted": self.corrupted}
        for other in MEASURES[measure].compares:
            if given[other] is None or self.compare is None:
                return NotAsked(f"{measure} needs --{other}=path/ to compare the model with", _way_to(other))
        return None

    def binding(self, checkpoint: Checkpoint, name: str, circuits: Sequence[Circuit]) -> Binding | None:
        """The circuit that fits a checkpoint, remembered."""
        key = (checkpoint, name, tuple(circuit.file for circuit in circuits))
        if key not in self.bindings:
            bound = bind(circuits, name, self.shape(checkpoint), self._fingerprints(checkpoint))
            task = self._task_of(name)
            if self.find is not None and task is not None and (bound is None or not bound.certain):
                bound = Binding(self.find(name, task), certain=True)
            self.bindings[key] = bound
        return self.bindings[key]

    def _task_of(self, name: str) -> Task | None:
        """The task by which a circuit can be found: of the suites' that speak of it, the first that can be patched."""
        tasks = (
            task
            for asked in self._announced
            if asked.suite.circuit == name
            for task in asked.suite.suite.tasks.values()
        )
        return next((task for task in tasks if task.offers >= TO_PATCH), None)

    def shape(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """The shape that a circuit file's `fits` is compared with."""
        model = self.audit.model(checkpoint)
        layout = model.layout
        return {
            "architecture": model.source.architecture,
            "layers": layout.layers,
            "heads": layout.heads,
            "d_model": layout.d_model,
        }

    def forget(self, checkpoint: Checkpoint) -> None:
        """Close a checkpoint that is not needed any more. The baseline and the corrupted one are kept."""
        if checkpoint not in (self.baseline, self.corrupted):
            self.audit.forget(checkpoint)
            self._planned.discard(checkpoint)

    def _fingerprints(self, checkpoint: Checkpoint) -> list[str]:
        lineage = [checkpoint] if self.baseline is None else [checkpoint, self.baseline]
        return [self.audit.model(member).source.fingerprint for member in lineage]

    def _requests(self, asked: Asked) -> list[Request] | NotAsked:
        """The reading that is judged, and the one of all components of its kinds where ranks are judged."""
        assertion = asked.assertion
        task = asked.suite.suite.tasks[assertion.task]
        heads: tuple[Component, ...] | None = None
        operands = self._operands(asked)
        if isinstance(operands, NotAsked):
            return operands
        spec = MEASURES[assertion.measure]
        if spec.by_head or spec.joint:
            found = self._heads(asked)
            if isinstance(found, NotAsked):
                return found
            heads = found
        if spec.joint:
            return [Request(assertion.measure, task, (*operands, ("set", heads)))]
        own = Request(assertion.measure, task, operands, heads)
        if assertion.expect.rank_within is None:
            return [own]
        return [own, Request(assertion.measure, task, operands, self._everyone(asked, assertion.kinds or ("head",)))]

    def _operands(self, asked: Asked) -> tuple[tuple[str, Any], ...] | NotAsked:
        """The assertion's operands, the roles among them bound to heads."""
        operands = dict(asked.assertion.operands)
        receiver = asked.assertion.receiver
        if isinstance(receiver, ReceiverHeads):
            heads = self._named(asked, receiver.heads)
            if isinstance(heads, NotAsked):
                return heads
            named = {"q": asked.assertion.query, "k": asked.assertion.key}.get(receiver.which)
            operands["receiver"] = Receiver(receiver.which, heads, receiver.at or named or END)
        if asked.assertion.without is not None:
            heads = self._named(asked, asked.assertion.without)
            if isinstance(heads, NotAsked):
                return heads
            operands["without"] = heads
        return tuple(operands.items())

    def _named(self, asked: Asked, heads: str | tuple[Head, ...]) -> tuple[Head, ...] | NotAsked:
        return self._bound(asked, heads) if isinstance(heads, str) else heads

    def _heads(self, asked: Asked) -> tuple[Component, ...] | NotAsked:
        """The heads or other components that the assertion speaks of."""
        assertion = asked.assertion
        heads: tuple[Component, ...]
        if assertion.of_all_heads:
            heads = self._everyone(asked, ("head",))
        elif isinstance(assertion.components, str):
            heads = self._everyone(asked, assertion.kinds)
        elif not isinstance(assertion.heads, str):
            heads = assertion.heads or assertion.components or ()
        else:
            bound = self._bound(asked, assertion.heads)
            if isinstance(bound, NotAsked):
                return bound
            heads = bound
        if assertion.layers is not None:
            first, last = assertion.layers
            heads = tuple(head for head in heads if first <= head.layer <= last)
            if not heads:
                whose = f"head of {assertion.heads}" if assertion.components is None else "component that is named"
                return NotAsked(f"no {whose} lies in layers {first} to {last}")
        return heads

    def _everyone(self, asked: Asked, kinds: Collection[str]) -> tuple[Component, ...]:
        """Every component of these kinds in the model."""
        layout = self.audit.model(asked.checkpoint).layout
        return tuple(
            component for kind in KINDS if kind in kinds for component in all_of(kind, layout.layers, layout.heads)
        )

    def _bound(self, asked: Asked, role: str) -> tuple[Head, ...] | NotAsked:
        """The heads of a role, or of the whole `circuit`."""
        binding = self.binding(asked.checkpoint, asked.suite.circuit, asked.circuits)
        heads = () if binding is None else binding.everyone if role == "circuit" else binding.heads(role)
        if not heads:
            self._refuse_unread(asked, role)
        if binding is None:
            return self._unbound(asked)
        return heads or NotAsked(f"{binding} has no {role} heads")

    def _refuse_unread(self, asked: Asked, role: str) -> None:
        """Check that no circuit file that cannot be read may have bound a role that nothing else binds.

        Raises:
            SuiteError: naming the file.
        """
        unread = unread_of(asked.circuits, asked.suite.circuit)
        if unread:
            more = f" (and {len(unread) - 1} more such files)" if len(unread) > 1 else ""
            raise SuiteError(f"no circuit file that can be read binds {role}: {unread[0]}{more}; correct or remove it")

    @property
    def unread(self) -> tuple[str, ...]:
        """The notes about circuit files that could not be read, for any suite."""
        asked = (
            unread for one in self._announced if isinstance(one.circuits, Circuits) for unread in one.circuits.unread
        )
        return tuple(f"{unread}; it was left out" for unread in dict.fromkeys(asked))

    def _unbound(self, asked: Asked) -> NotAsked:
        shape = self.shape(asked.checkpoint)
        size = "{architecture} of {layers} layers x {heads} heads, d_model {d_model}".format(**shape)
        circuit = asked.suite.circuit
        unbound = f"no circuit file binds the roles of {circuit!r}{likely_meant(circuit, asked.circuits)} for {size}"
        tasks = asked.suite.suite.tasks
        name = next((name for name, task in tasks.items() if task.offers >= TO_PATCH), None)
        if name is None:
            return NotAsked(f"{unbound}, and `circuit-assertions discover` cannot use any task of the suite")
        model = str(self.baseline or asked.checkpoint)
        command = discover_command(asked.suite.file, name, circuit, model, tasks[name].kind)
        way_out = f"find the heads with `{command}`, or on a baseline with --discover"
        return NotAsked(f"{unbound}: {way_out}", way_out)

    def _plan(self, checkpoint: Checkpoint) -> None:
        if checkpoint in self._planned:
            return
        self._planned.add(checkpoint)
        for asked in self._announced:
            if asked.checkpoint == checkpoint and not MEASURES[asked.assertion.measure].compares:
                try:
                    requests = self._requests(asked)
                except CircuitAssertionsError:  # it is said of the assertion that it keeps from being judged
                    continue
                if not isinstance(requests, NotAsked):
                    self.audit.plan(checkpoint, requests)
                    for other in (self.baseline, self.corrupted):
                        if other is not None:
                            self.audit.plan(other, requests[:1])
