"""The declarative layer: suites, circuit files, expectations and verdicts. Importing it does not import torch."""

from __future__ import annotations

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
