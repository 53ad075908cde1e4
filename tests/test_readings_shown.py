"""Readings in reports: small ones keep their digits, in every report alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from said import says
from test_diagnosed_report import CASES, text_of
from test_trajectory_report import trajectory, trajectory_lines

from circuit_assertions.measures import Interval
from circuit_assertions.measures.figures import Figure, number, signed
from circuit_assertions.report.edges import edges_lines
from circuit_assertions.results import CheckpointFacts, EdgesResult
from circuit_assertions.results.edges import EdgeScored

SMALL = Figure(0.00412, Interval(-0.000301, 0.0083))
SHOWN = ("0.00412", "-0.000301", "0.0083")


@given(st.floats(-1e6, 1e6))
def test_a_number_is_as_near_as_three_digits_or_two_decimals_allow(value: float) -> None:
    shown = number(value)
    if abs(value) < 1e-6:
        assert shown == "0"
        return
    assert float(shown) == pytest.approx(value, rel=0.005, abs=0.00501 if abs(value) > 0.0999 else 0)
    assert shown.startswith("-") == (value < 0)
    assert signed(value) == (shown if value < 0 else f"+{shown}")


def test_a_small_figure_is_shown_with_its_digits_in_every_report() -> None:
    assert says(str(SMALL), *SHOWN)
    found = trajectory(".....")
    steps = tuple(replace(step, behaviour=SMALL) for step in found.steps)
    assert says("\n".join(trajectory_lines(replace(found, steps=steps))), *SHOWN)
    case = next(iter(CASES.values()))
    behaviour = replace(case.behaviour, after=SMALL)
    assert says(text_of(replace(case, behaviour=behaviour)), *SHOWN)


def test_a_small_score_of_an_edge_is_shown_with_its_digits() -> None:
    model = CheckpointFacts(
        checkpoint="m", fingerprint="0", architecture="A", layers=1, heads=1, d_model=1, dtype="float32", device="cpu"
    )
    result = EdgesResult(
        checkpoint="m",
        model=model,
        called="t",
        task={},
        token_hash="",
        balance={},
        prompts=8,
        steps=5,
        unit="probability",
        edges_of_model=1,
        edges=(EdgeScored(sender="embedding", receiver="MLP0", mostly_at="end", score=0.000412, share=1.0),),
        to_confirm=(),
    )
    assert "+0.000412" in "\n".join(edges_lines(result))
