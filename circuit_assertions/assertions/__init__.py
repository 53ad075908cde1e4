"""The declarative layer: suites, circuit files, expectations and verdicts. Importing it does not import torch.

Names are imported once somebody asks for them: a package that offers a condition imports from here while the conditions
are being collected.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuit_assertions.assertions.circuits import Binding, Circuit, bind
    from circuit_assertions.assertions.errors import SuiteError
    from circuit_assertions.assertions.judging import describe, judge
    from circuit_assertions.assertions.loading import LoadedSuite, load_circuit, load_circuits, load_suite
    from circuit_assertions.assertions.schema import Assertion, Expectation, Suite
    from circuit_assertions.assertions.verdicts import Finding, Judgement, Row, Verdict

__all__ = [
    "Assertion",
    "Binding",
    "Circuit",
    "Expectation",
    "Finding",
    "Judgement",
    "LoadedSuite",
    "Row",
    "Suite",
    "SuiteError",
    "Verdict",
    "bind",
    "describe",
    "judge",
    "load_circuit",
    "load_circuits",
    "load_suite",
]

_HOMES = {
    "Assertion": "schema",
    "Binding": "circuits",
    "Circuit": "circuits",
    "Expectation": "schema",
    "Finding": "verdicts",
    "Judgement": "verdicts",
    "LoadedSuite": "loading",
    "Row": "verdicts",
    "Suite": "schema",
    "SuiteError": "errors",
    "Verdict": "verdicts",
    "bind": "circuits",
    "describe": "judging",
    "judge": "judging",
    "load_circuit": "loading",
    "load_circuits": "loading",
    "load_suite": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
