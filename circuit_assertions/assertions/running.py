"""Put the assertions of suites to checkpoints: bind roles, take the readings, judge them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from circuit_assertions.assertions.circuits import Binding, Circuit, bind
from circuit_assertions.assertions.judging import judge
from circuit_assertions.assertions.loading import LoadedSuite
from circuit_assertions.assertions.schema import Assertion, ReceiverHeads
from circuit_assertions.assertions.verdicts import Judgement
from circuit_assertions.audit import Audit, Request
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES, Receiver

__all__ = ["Asked", "NotAsked", "SuiteRunner"]

_NO_BASELINE = "everything it expects is relative to a baseline: give one with --baseline=path/"


@dataclass(frozen=True)
class Asked:
    """One assertion of a suite, put to one checkpoint."""

    suite: LoadedSuite
    assertion: Assertion
    checkpoint: Checkpoint
    circuits: tuple[Circuit, ...]


@dataclass(frozen=True)
class NotAsked:
    """Why an assertion could not be put to this model, though nothing is wrong with either."""

    reason: str


@dataclass
class SuiteRunner:
    """Judges assertions in one audit, sharing passes among all that were announced.

    Attributes:
        bindings: which circuit was bound for each checkpoint and circuit name, out of which files; None where none
            fits.
    """

    audit: Audit
    baseline: Checkpoint | None = None
    bindings: dict[tuple[Checkpoint, str, tuple[Path | None, ...]], Binding | None] = field(default_factory=dict)
    _announced: list[Asked] = field(default_factory=list)
    _planned: set[Checkpoint] = field(default_factory=set)

    def announce(self, asked: Iterable[Asked]) -> None:
        """Say what will be judged, before the first judgement."""
        self._announced.extend(asked)

    def judge(self, asked: Asked) -> Judgement | NotAsked:
        """Judge one assertion.

        Raises:
            CircuitAssertionsError: if the model, the task or the measure does not allow it.
        """
        if self.baseline is None and asked.assertion.expect.only_relative:
            return NotAsked(_NO_BASELINE)
        requests = self._requests(asked)
        if isinstance(requests, NotAsked):
            return requests
        self._plan(asked.checkpoint)
        reading = self.audit.read(requests[0], asked.checkpoint)
        everyone = self.audit.read(requests[1], asked.checkpoint) if len(requests) > 1 else None
        baseline = self.audit.read(requests[0], self.baseline) if self.baseline is not None else None
        expect = asked.assertion.expect
        judged = judge(reading, expect, asked.assertion.needed, baseline=baseline, everyone=everyone)
        return judged or NotAsked(_NO_BASELINE)

    def binding(self, checkpoint: Checkpoint, name: str, circuits: Sequence[Circuit]) -> Binding | None:
        """The circuit that fits a checkpoint, remembered."""
        key = (checkpoint, name, tuple(circuit.file for circuit in circuits))
        if key not in self.bindings:
            self.bindings[key] = bind(circuits, name, self.shape(checkpoint), self._fingerprints(checkpoint))
        return self.bindings[key]

    def shape(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What a circuit file's `fits` is held against."""
        model = self.audit.model(checkpoint)
        layout = model.layout
        return {
            "architecture": model.source.architecture,
            "layers": layout.layers,
            "heads": layout.heads,
            "d_model": layout.d_model,
        }

    def forget(self, checkpoint: Checkpoint) -> None:
        """Close a checkpoint that nothing more will be asked of. The baseline is kept."""
        if checkpoint != self.baseline:
            self.audit.forget(checkpoint)
            self._planned.discard(checkpoint)

    def _fingerprints(self, checkpoint: Checkpoint) -> list[str]:
        lineage = [checkpoint] if self.baseline is None else [checkpoint, self.baseline]
        return [self.audit.model(member).source.fingerprint for member in lineage]

    def _requests(self, asked: Asked) -> list[Request] | NotAsked:
        """The reading that is judged, and the one of all heads where ranks are judged."""
        assertion = asked.assertion
        task = asked.suite.suite.tasks[assertion.task]
        heads: tuple[Head, ...] | None = None
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
        return [own, Request(assertion.measure, task, operands)]

    def _operands(self, asked: Asked) -> tuple[tuple[str, Any], ...] | NotAsked:
        """The assertion's operands, a receiver's role bound to heads."""
        receiver = asked.assertion.receiver
        if not isinstance(receiver, ReceiverHeads):
            return asked.assertion.operands
        heads = self._bound(asked, receiver.heads) if isinstance(receiver.heads, str) else receiver.heads
        if isinstance(heads, NotAsked):
            return heads
        bound = Receiver(receiver.which, heads, receiver.at)
        return tuple((name, bound if name == "receiver" else value) for name, value in asked.assertion.operands)

    def _heads(self, asked: Asked) -> tuple[Head, ...] | NotAsked:
        assertion = asked.assertion
        if assertion.of_all_heads:
            heads = tuple(self.audit.model(asked.checkpoint).layout.all_heads())
        elif not isinstance(assertion.heads, str):
            heads = assertion.heads or ()
        else:
            bound = self._bound(asked, assertion.heads)
            if isinstance(bound, NotAsked):
                return bound
            heads = bound
        if assertion.layers is not None:
            first, last = assertion.layers
            heads = tuple(head for head in heads if first <= head.layer <= last)
            if not heads:
                return NotAsked(f"no head of {assertion.heads} lies in layers {first} to {last}")
        return heads

    def _bound(self, asked: Asked, role: str) -> tuple[Head, ...] | NotAsked:
        """The heads of a role, or of the whole `circuit`."""
        binding = self.binding(asked.checkpoint, asked.suite.circuit, asked.circuits)
        if binding is None:
            return NotAsked(self._unbound(asked))
        heads = binding.everyone if role == "circuit" else binding.heads(role)
        return heads or NotAsked(f"{binding} names no head as {role}")

    def _unbound(self, asked: Asked) -> str:
        shape = self.shape(asked.checkpoint)
        size = "{architecture} of {layers} layers x {heads} heads, d_model {d_model}".format(**shape)
        return (
            f"no circuit file binds the roles of {asked.suite.circuit!r} for {size}: write one in "
            f"{asked.suite.file.parent.name}/circuits/ (docs/suites.md, Circuit files)"
        )

    def _plan(self, checkpoint: Checkpoint) -> None:
        if checkpoint in self._planned:
            return
        self._planned.add(checkpoint)
        for asked in self._announced:
            if asked.checkpoint == checkpoint:
                requests = self._requests(asked)
                if not isinstance(requests, NotAsked):
                    self.audit.plan(checkpoint, requests)
                    if self.baseline is not None:
                        self.audit.plan(self.baseline, requests[:1])
