"""The results of all assertions of suites on one checkpoint, outside of pytest."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.runner import PlannedAssertion, SuiteRunner
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.suite_verdicts import Suites, answers_of, named
from circuit_assertions.places import shown_path
from circuit_assertions.results.audit import AssertionResult
from circuit_assertions.results.judged import judged, planned
from circuit_assertions.verdict_words import Outcome

__all__ = ["results_of"]


def results_of(runner: SuiteRunner, checkpoint: Checkpoint, suites: Suites) -> list[AssertionResult]:
    """Judge every assertion. One that cannot be judged has the reason, and does not keep the others from it."""
    assertions = named(suites)
    answers, results = answers_of(runner, checkpoint, assertions), []
    for name, one in assertions.items():
        asked = PlannedAssertion(one.suite, one.assertion, checkpoint, one.circuits)
        to_come, answer = planned(asked, shown_path(one.suite.file)), answers[name]
        if isinstance(answer, CircuitAssertionsError):
            update = {"outcome": Outcome.ERROR.value, "reason": str(answer)}
            results.append(to_come.model_copy(update=update))
        else:
            results.append(judged(to_come, one.assertion, answer))
    return results
