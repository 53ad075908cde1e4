"""Bind the circuits of suites to checkpoints: which heads play a role, and why none does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from circuit_assertions.assertions.circuit_names import discover_command
from circuit_assertions.assertions.circuits import Binding, Circuit, Circuits, bind, likely_meant, unread_of
from circuit_assertions.assertions.errors import SuiteError
from circuit_assertions.assertions.planned import NotApplicable, PlannedAssertion
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.heads import Head
from circuit_assertions.tasks import TO_PATCH, Task

__all__ = ["Binder"]


@dataclass
class Binder:
    """Binds circuits to checkpoints, and remembers what it bound.

    Attributes:
        bindings: which circuit was bound for each checkpoint and circuit name, out of which files; None where none
            fits.
        find: finds a circuit by name and task where no file binds it by fingerprint; None: no search.
        announced: everything that will be judged.
    """

    audit: Audit
    baseline: Checkpoint | None = None
    find: Callable[[str, Task], Circuit] | None = None
    bindings: dict[tuple[Checkpoint, str, tuple[Path | None, ...]], Binding | None] = field(default_factory=dict)
    announced: list[PlannedAssertion] = field(default_factory=list)

    def binding(self, checkpoint: Checkpoint, name: str, circuits: Sequence[Circuit]) -> Binding | None:
        """The circuit that fits a checkpoint, remembered."""
        key = (checkpoint, name, tuple(circuit.file for circuit in circuits))
        if key not in self.bindings:
            bound = bind(circuits, name, self.audit.opened(checkpoint).shape, self.fingerprints(checkpoint))
            task = self._task_of(name)
            if self.find is not None and task is not None and (bound is None or not bound.certain):
                bound = Binding(self.find(name, task), certain=True)
            self.bindings[key] = bound
        return self.bindings[key]

    def _task_of(self, name: str) -> Task | None:
        """The task by which a circuit can be found: of the suites' that speak of it, the first that can be patched."""
        tasks = (
            task for asked in self.announced if asked.circuit == name for task in asked.suite.tasks_of(name).values()
        )
        return next((task for task in tasks if task.offers >= TO_PATCH), None)

    def fingerprints(self, checkpoint: Checkpoint) -> list[str]:
        """Those of a checkpoint and of its baseline, in this order."""
        lineage = [checkpoint] if self.baseline is None else [checkpoint, self.baseline]
        return [self.audit.known(member).fingerprint for member in lineage]

    def bound(self, asked: PlannedAssertion, role: str) -> tuple[Head, ...] | NotApplicable:
        """The heads of a role, or of the whole `circuit`."""
        binding = self.binding(asked.checkpoint, asked.circuit, asked.circuits)
        heads = () if binding is None else binding.everyone if role == "circuit" else binding.heads(role)
        if not heads:
            self._refuse_unread(asked, role)
        if binding is None:
            return self._unbound(asked)
        return heads or NotApplicable(f"{binding} has no {role} heads")

    def assumed(self, asked: PlannedAssertion) -> str:
        """The circuit by which the assertion's roles were bound, where its lineage is assumed; empty otherwise."""
        assertion = asked.assertion
        named = [assertion.heads] if isinstance(assertion.heads, str) else []
        if all(role in ("any", "all") for role in (*named, *(role for _, role in assertion.roles_named))):
            return ""
        binding = self.binding(asked.checkpoint, asked.circuit, asked.circuits)
        if binding is None or binding.certain:
            return ""
        return f"{binding}; find this model's own with `circuit-assertions discover`, or give its base with --baseline"

    def _refuse_unread(self, asked: PlannedAssertion, role: str) -> None:
        """Check that no circuit file that cannot be read may have bound a role that nothing else binds.

        Raises:
            SuiteError: naming the file.
        """
        unread = unread_of(asked.circuits, asked.circuit)
        if unread:
            more = f" (and {len(unread) - 1} more such files)" if len(unread) > 1 else ""
            raise SuiteError(f"no circuit file that can be read binds {role}: {unread[0]}{more}; correct or remove it")

    @property
    def unread(self) -> tuple[str, ...]:
        """The notes about circuit files that could not be read, for any suite."""
        asked = (
            unread for one in self.announced if isinstance(one.circuits, Circuits) for unread in one.circuits.unread
        )
        return tuple(f"{unread}; it was left out" for unread in dict.fromkeys(asked))

    def _unbound(self, asked: PlannedAssertion) -> NotApplicable:
        shape = self.audit.opened(asked.checkpoint).shape
        circuit = asked.circuit
        unbound = f"no circuit file binds the roles of {circuit!r}{likely_meant(circuit, asked.circuits)} for {shape}"
        tasks = asked.suite.tasks_of(circuit)
        name = next((name for name, task in tasks.items() if task.offers >= TO_PATCH), None)
        if name is None:
            return NotApplicable(f"{unbound}, and `circuit-assertions discover` cannot use any task of the suite")
        model = str(self.baseline or asked.checkpoint)
        command = discover_command(asked.suite.file, name, circuit, model, tasks[name].kind)
        way_out = f"find the heads with `{command}`, or on a baseline with --discover"
        return NotApplicable(f"{unbound}: {way_out}", way_out)
