"""A limit of a model in pytest's output: its reason once, in the circuit audit, and short lines that refer to it."""

from __future__ import annotations

import pytest

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.plugin.items import AssertionItem
from circuit_assertions.plugin.reported import note
from circuit_assertions.printable import printable
from circuit_assertions.results.audit import AuditedModel, MetLimit, ModelLimit
from circuit_assertions.results.facts import audited_model

__all__ = ["short_of"]


def short_of(error: BaseException, item: pytest.Item, checkpoint: Checkpoint, runner: SuiteRunner) -> str:
    """What to say of an item that a limit of a model refuses; empty for other errors.

    The limit is noted for the item's report, from where it gets into the circuit audit.
    """
    from circuit_assertions.engine import LimitError

    if not isinstance(error, LimitError):
        return ""
    of = "" if error.checkpoint == checkpoint else f" of {error.checkpoint}"
    name = f"{error.limit.name}{of}"
    try:
        model = audited_model(runner, checkpoint)
    except CircuitAssertionsError:  # a baseline that does not open: whoever needs it says so
        model = AuditedModel(model=str(checkpoint))
    told = AuditedModel(model=str(checkpoint), limits=(ModelLimit(name=name, reason=error.limit.reason),))
    note(
        item,
        of_suite=isinstance(item, AssertionItem),
        model=model.joined(told),
        limit=MetLimit(name=name, measure=error.measure),
    )
    return printable(f"{error.short}; the circuit audit has the reason")
