"""A limit of a model in pytest's output: its reason once, in the circuit audit, and short lines that refer to it."""

from __future__ import annotations

import pytest

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.plugin.terminal import FACTS, LIMIT, facts_of, record
from circuit_assertions.printable import printable

__all__ = ["short_of"]


def short_of(error: BaseException, item: pytest.Item, checkpoint: Checkpoint, runner: SuiteRunner) -> str:
    """What to say of an item that a limit of a model refuses; empty for other errors.

    The limit is attached to the item's report, from where it gets into the circuit audit.
    """
    from circuit_assertions.engine import LimitError

    if not isinstance(error, LimitError):
        return ""
    of = "" if error.checkpoint == checkpoint else f" of {error.checkpoint}"
    name = printable(f"{error.limit.name}{of}")
    try:
        facts = facts_of(runner, checkpoint)
    except CircuitAssertionsError:  # a baseline that does not open: whoever needs it says so
        facts = []
    told = ("limits", printable(f"{name}: {error.limit.reason}"))
    record(item, FACTS, list(dict.fromkeys([*facts, told])))
    record(item, LIMIT, [str(checkpoint), name, error.measure])
    return printable(f"{error.short}; the circuit audit has the reason")
