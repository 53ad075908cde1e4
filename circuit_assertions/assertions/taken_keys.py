"""The keys that operands of measures cannot have, because something else stands under them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from circuit_assertions.assertions.circuits import Threshold
from circuit_assertions.assertions.schema import Assertion, Expectation
from circuit_assertions.tasks.schema import Strict

__all__ = ["taken_keys"]

_OWNERS: Mapping[str, type[Strict]] = {
    "an assertion": Assertion,
    "a threshold of a circuit file": Threshold,
    "`expect`": Expectation,  # in Python its keys are arguments beside the operands
}


@cache
def taken_keys() -> Mapping[str, str]:
    """What each taken key belongs to, in words; the first owner of a key that several have."""
    found: dict[str, str] = {}
    for owner, model in _OWNERS.items():
        for name, field in model.model_fields.items():
            found.setdefault(field.alias or name, owner)
    return found
