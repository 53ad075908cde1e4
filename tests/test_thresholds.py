"""Proposed thresholds: never past the interval of the reading, and held by the model they were made on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from auditing import HEALTHY, Audited, repeated
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from suite_texts import write

from circuit_assertions.diagnosis.discovery import circuit_content, discover
from circuit_assertions.diagnosis.discovery.thresholds import _proposal
from circuit_assertions.measures.intervals import ALONE, interval_of_mean, interval_of_share
from circuit_assertions.policy import DEFAULT

pytestmark = pytest.mark.usefixtures("opened_once")

READINGS = arrays(np.float64, st.integers(16, 80), elements=st.floats(-50, 50, allow_subnormal=False))

TOGETHER = ALONE.among(DEFAULT.proposal_together)


@settings(deadline=None, max_examples=60)
@given(READINGS)
@example(np.array([6.8e-151, *[0.0] * 15]))
def test_a_bound_is_cleared_by_the_interval_and_has_two_digits(values: np.ndarray) -> None:
    made = _proposal({"measure": "logit-difference"}, values, DEFAULT)
    low, high = interval_of_mean(values, TOGETHER)
    assert made.bound.is_lower == (values.mean() >= 0)
    assert made.bound.number <= low if made.bound.is_lower else made.bound.number >= high
    assert made.bound.number == pytest.approx(float(f"{made.bound.number:.2g}"), rel=1e-12)
    assert made.margin == pytest.approx(abs(values.mean() - made.bound.number))


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, st.integers(16, 300), elements=st.sampled_from([0.0, 1.0])))
def test_a_share_is_not_asked_to_be_without_a_miss(hits: np.ndarray) -> None:
    made = _proposal({"measure": "answer-rate"}, hits, DEFAULT)
    assert made.bound.number <= interval_of_share(hits, TOGETHER).low


@pytest.mark.complete
def test_the_model_they_were_made_on_holds_them(pytester: pytest.Pytester) -> None:
    audited = Audited(HEALTHY)
    content = circuit_content(discover(audited.audit, audited.checkpoint, repeated(prompts=32)))
    assertions = [
        {key: value for key, value in said.items() if key not in ("at-least", "at-most", "reads", "margin")}
        | {"id": f"threshold-{number}", "task": "again"}
        | {"expect": {key: said[key] for key in ("at-least", "at-most") if key in said}}
        for number, said in enumerate(content["found"]["thresholds"])
    ]
    suite = {
        "suite": "proposed",
        "circuit": "induction",
        "tasks": {"again": {"kind": "repeated-tokens", "prompts": 32}},
        "assertions": assertions,
    }
    files = {"suites/proposed.yaml": yaml.safe_dump(suite), "suites/circuits/own.yaml": yaml.safe_dump(content)}
    write(Path(pytester.path), files)
    result = pytester.runpytest_inprocess(f"--model={HEALTHY}", "suites/proposed.yaml")
    result.assert_outcomes(passed=len(assertions))
    assert len(assertions) >= 8
