"""Short ways to results of assertions, for tests that render them."""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from circuit_assertions.assertions import Assertion, Judgement, LoadedSuite, load_suite
from circuit_assertions.assertions.runner import PlannedAssertion
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.report import explain
from circuit_assertions.results import AssertionResult
from circuit_assertions.results.audit import Waiver
from circuit_assertions.results.judged import judged, planned

__all__ = ["explained", "line", "line_of", "waiver"]


def line(model: str, suite: str, name: str, outcome: str, **more: Any) -> AssertionResult:
    """A result that was not judged here."""
    return AssertionResult(model=model, suite=suite, id=name, outcome=outcome, **more)


def waiver(until: str | date, expired: bool = False) -> Waiver:
    return Waiver.model_validate({"until": until, "reason": "known", "expired": expired})


def line_of(
    assertion: Assertion, judgement: Judgement, suite: str = "suites/ioi.yaml", command: str = ""
) -> AssertionResult:
    """The result of a judgement."""
    asked = PlannedAssertion(_packaged(), assertion, Checkpoint("tuned"), ())
    return judged(planned(asked, suite, command), assertion, judgement)


def explained(judgement: Judgement, assertion: Assertion, command: str) -> str:
    """The text of a failure."""
    return explain(line_of(assertion, judgement, command=command))


@cache
def _packaged() -> LoadedSuite:
    return load_suite(Path(__file__).parents[1] / "suites" / "ioi.yaml")
