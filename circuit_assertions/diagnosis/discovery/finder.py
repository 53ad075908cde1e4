"""Circuits found on the spot: what `pytest --discover` binds roles by where no file does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from circuit_assertions.assertions.circuits import Circuit
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.discovery.circuit_file import circuit_content
from circuit_assertions.diagnosis.discovery.find_circuit import discover
from circuit_assertions.diagnosis.errors import DiagnosisError
from circuit_assertions.tasks import Task

__all__ = ["Finder"]


@dataclass
class Finder:
    """Discovers circuits on one checkpoint, each task's once.

    Attributes:
        say: told what is being looked for.
        chain: the chain that is followed, by its name or its file; default each task's.
    """

    audit: Audit
    checkpoint: Checkpoint
    say: Callable[[str], None] = lambda text: None
    chain: str | None = None
    _found: dict[tuple[str, Task], Circuit | DiagnosisError] = field(default_factory=dict)

    def __call__(self, name: str, task: Task) -> Circuit:
        """The circuit called `name`, by this task.

        Raises:
            DiagnosisError: if there is none, the same again each time.
        """
        key = (name, task)
        if key not in self._found:
            try:
                found = discover(
                    self.audit, self.checkpoint, task, name=name, circuit=name, chain=self.chain, stage=self.say
                )
            except DiagnosisError as error:
                self._found[key] = DiagnosisError(
                    f"no circuit {name!r} was found on {self.checkpoint}: {error.args[0]}", *error.args[1:]
                )
            else:
                self._found[key] = Circuit.model_validate(circuit_content(found))
        known = self._found[key]
        if isinstance(known, DiagnosisError):
            raise known
        return known
