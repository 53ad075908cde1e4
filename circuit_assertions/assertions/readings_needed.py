"""The readings that an assertion needs of a checkpoint: its heads, its operands, and what is ranked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.binding import Binder
from circuit_assertions.assertions.planned import NotApplicable, PlannedAssertion
from circuit_assertions.assertions.without_chat import requests_without_chat
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.components import KINDS, Component, all_of
from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES, Receiver
from circuit_assertions.measures.receivers import ReceiverHeads
from circuit_assertions.request import Request
from circuit_assertions.tasks import END

__all__ = ["Requesting"]


@dataclass(frozen=True)
class Requesting:
    """Says which readings are to be taken for an assertion."""

    audit: Audit
    binder: Binder

    def plan(self, checkpoint: Checkpoint, others: Sequence[Checkpoint], *, without_chat: bool) -> None:
        """Announce to the audit what will be read from a checkpoint, and from those that it is compared with.

        Args:
            without_chat: whether prompts are also read without their chat template.
        """
        for asked in self.binder.announced:
            if asked.checkpoint == checkpoint and not MEASURES[asked.assertion.measure].compares:
                try:
                    requests = self.requests(asked)
                except CircuitAssertionsError:  # it is said of the assertion that it keeps from being judged
                    continue
                if not isinstance(requests, NotApplicable):
                    plain = requests_without_chat(asked, requests) if without_chat else []
                    self.audit.plan(checkpoint, [*requests, *plain])
                    for other in others:
                        self.audit.plan(other, [*requests[:1], *plain[:1]])

    def requests(self, asked: PlannedAssertion) -> list[Request] | NotApplicable:
        """The reading that is judged, and the one of all components of its kinds where ranks are judged."""
        assertion = asked.assertion
        task = asked.task
        heads: tuple[Component, ...] | None = None
        operands = self._operands(asked)
        if isinstance(operands, NotApplicable):
            return operands
        spec = MEASURES[assertion.measure]
        if spec.by_head or spec.joint:
            found = self._heads(asked)
            if isinstance(found, NotApplicable):
                return found
            heads = found
        if spec.joint:
            return [Request(assertion.measure, task, (*operands, ("set", heads)))]
        own = Request(assertion.measure, task, operands, heads)
        if not assertion.expect.ranks:
            return [own]
        return [own, Request(assertion.measure, task, operands, self._everyone(asked, assertion.kinds or ("head",)))]

    def _operands(self, asked: PlannedAssertion) -> tuple[tuple[str, Any], ...] | NotApplicable:
        """The assertion's operands, the roles among them bound to heads."""
        assertion = asked.assertion
        operands = dict(assertion.operands)
        for key, named in assertion.heads_named:
            heads = self._named(asked, named)
            if isinstance(heads, NotApplicable):
                return heads
            given = operands[key]
            operands[key] = _bound(given, heads, operands) if isinstance(given, ReceiverHeads) else heads
        return tuple(operands.items())

    def _named(self, asked: PlannedAssertion, heads: str | tuple[Head, ...]) -> tuple[Head, ...] | NotApplicable:
        return self.binder.bound(asked, heads) if isinstance(heads, str) else heads

    def _heads(self, asked: PlannedAssertion) -> tuple[Component, ...] | NotApplicable:
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
            bound = self.binder.bound(asked, assertion.heads)
            if isinstance(bound, NotApplicable):
                return bound
            heads = bound
        if assertion.layers is not None:
            first, last = assertion.layers
            heads = tuple(head for head in heads if first <= head.layer <= last)
            if not heads:
                whose = f"head of {assertion.heads}" if assertion.components is None else "component that is named"
                return NotApplicable(f"no {whose} lies in layers {first} to {last}")
        return heads

    def _everyone(self, asked: PlannedAssertion, kinds: Collection[str]) -> tuple[Component, ...]:
        """Every component of these kinds in the model."""
        shape = self.audit.opened(asked.checkpoint).shape
        return tuple(
            component for kind in KINDS if kind in kinds for component in all_of(kind, shape.layers, shape.heads)
        )


def _bound(receiver: ReceiverHeads, heads: tuple[Head, ...], operands: Mapping[str, Any]) -> Receiver:
    """A receiver, its role bound, at the position that is read where it names none."""
    read = {"q": operands.get("query"), "k": operands.get("key")}.get(receiver.which)
    return Receiver(receiver.which, heads, receiver.at or read or END)
