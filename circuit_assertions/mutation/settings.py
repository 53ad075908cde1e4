"""Which heads a mutation test damages, and everything that its outcomes depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.circuits import Binding
from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.audit import Audit
from circuit_assertions.bounded import UnreadableError, read_bounded
from circuit_assertions.diagnosis.suite_verdicts import Suites
from circuit_assertions.heads import Head
from circuit_assertions.mutation.errors import MutationError
from circuit_assertions.places import shown_path
from circuit_assertions.results.base import versions
from circuit_assertions.tasks import Task

__all__ = ["bindings_of", "heads_of", "settings_of"]

_MOST_BYTES = 8_000_000  # the limit that suites are read with


def bindings_of(audit: Audit, suites: Suites) -> tuple[Binding, ...]:
    """The circuits that bind the suites' roles on the undamaged model, each once."""
    assert audit.baseline is not None
    runner = SuiteRunner(audit, audit.baseline)
    found = (runner.binding(audit.baseline, name, circuits) for suite, circuits in suites for name in suite.circuits)
    return tuple({str(one): one for one in found if one is not None}.values())


def heads_of(audit: Audit, suites: Suites, bindings: Collection[Binding]) -> tuple[Head, ...]:
    """The heads of these circuits, and those that the suites' assertions name."""
    heads = {head for binding in bindings for head in binding.everyone}
    for suite, _ in suites:
        for assertion in suite.suite.assertions:
            named = assertion.heads if isinstance(assertion.heads, tuple) else assertion.components
            heads.update(one for one in named or () if isinstance(one, Head))
    return tuple(sorted(heads))


def settings_of(
    audit: Audit, suites: Suites, bindings: Collection[Binding], seed: int, strength: float
) -> dict[str, Any]:
    """Everything that the outcome of a mutant depends on, by what messages call it.

    Raises:
        MutationError: if a suite cannot be read again.
    """
    assert audit.baseline is not None
    identity = audit.model(audit.baseline).identity()
    found: dict[str, Any] = {"model": identity.pop("fingerprint"), "setting of the model": identity}
    for suite, _ in suites:
        try:
            text = read_bounded(suite.file, _MOST_BYTES)
        except UnreadableError as error:
            raise MutationError(f"{suite.file} {error}") from error
        tasks = {name: _tokens(audit, task) for name, task in suite.suite.tasks.items()}
        found[f"suite {shown_path(suite.file)}"] = hashlib.sha256(text).hexdigest()
        found[f"set of prompts of {shown_path(suite.file)}"] = tasks
    for binding in bindings:
        text = binding.circuit.model_dump_json().encode()
        found[f"circuit {binding.name}"] = hashlib.sha256(text).hexdigest()
    return {**found, "seed": seed, "strength": strength, "policy": audit.policy.values, "version": versions()}


def _tokens(audit: Audit, task: Task) -> str:
    """The hash of a task's prompts on the undamaged model; the reason, where it cannot be run there."""
    assert audit.baseline is not None
    try:
        return audit.prompts(task, audit.baseline).token_hash
    except CircuitAssertionsError as error:
        return str(error)
