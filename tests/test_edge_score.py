"""`edge-score`: what a Python test may read, and what no suite may assert."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from auditing import HEALTHY, Audited, ioi
from said import says
from tiny_models import save_tiny

from circuit_assertions.assertions import SuiteError, load_suite
from circuit_assertions.components import Mlp
from circuit_assertions.engine import MeasuringError
from circuit_assertions.heads import Head
from circuit_assertions.measures import Receiver
from circuit_assertions.request import Request

TASK = ioi(prompts=6)
SUITE = """
suite: triage is no gate
tasks: {ioi: {kind: ioi, prompts: 8}}
assertions:
  - {id: edge, measure: edge-score, heads: [L0H0], task: ioi, expect: {sign: positive}}
"""


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Audited:
    return Audited(tiny_folder)


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    return Audited(save_tiny(tmp_path_factory.mktemp("grouped"), "llama"))


def test_a_reading_says_that_it_is_approximate_and_by_how_many_steps(tiny: Audited) -> None:
    reading = tiny.audit.read(Request("edge-score", TASK, (), (Head(0, 1), Mlp(1))), tiny.checkpoint)
    assert reading.settings["approximate"] is True
    assert reading.settings["operands"] == {"receiver": "logits", "steps": "5"}
    assert reading.values.shape == (6, 2)
    exact = tiny.read("path-effect", TASK, Head(0, 1), semantics="direct")
    assert "approximate" not in exact.settings


def test_it_has_the_sign_and_about_the_size_of_the_exact_direct_path_effect() -> None:
    """On a trained model, where it matters: EAP-IG finds the heads that path patching finds."""
    healthy, task = Audited(HEALTHY), ioi(prompts=16)
    score = healthy.read("edge-score", task, steps=5).values.mean(axis=0)
    exact = healthy.read("path-effect", task, semantics="direct").values.mean(axis=0)
    strong = np.abs(exact) > 0.1 * np.abs(exact).max()
    assert strong.sum() >= 4
    assert (np.sign(score) == np.sign(exact))[strong].all()
    assert np.corrcoef(score, exact)[0, 1] > 0.9


def test_positions_and_receivers_add_up(tiny: Audited) -> None:
    """The queries of a head in the last layer matter at the end alone, and receivers together are their sum."""
    first, second = Head(2, 0), Head(2, 3)

    def score(heads: tuple[Head, ...], at: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return tiny.read("edge-score", TASK, Head(0, 1), receiver=Receiver("q", heads, at)).values

    assert np.abs(score((first,), "end")).max() > 1e-4
    assert score((first,), "subject-2") == pytest.approx(0.0, abs=1e-7)
    assert score((first, second), "end") == pytest.approx(score((first,), "end") + score((second,), "end"), abs=1e-6)


def test_keys_are_received_by_groups(grouped: Audited) -> None:
    with pytest.raises(MeasuringError, match=r"layer 2 .*groups.* 2\b"):
        grouped.read("edge-score", TASK, Head(0, 1), receiver=Receiver("k", (Head(2, 1),), "end"))
    group = Receiver("k", (Head(2, 0), Head(2, 1)), "end")
    assert grouped.read("edge-score", TASK, Head(0, 1), receiver=group).prompts == 6


def test_what_cannot_be_read_is_refused_by_name(tiny: Audited) -> None:
    with pytest.raises(MeasuringError, match=r"\b0\b.*\bsteps\b"):
        tiny.read("edge-score", TASK, steps=0)
    with pytest.raises(MeasuringError, match=r"\bL9H0\b"):
        tiny.read("edge-score", TASK, receiver=Receiver("q", (Head(9, 0),), "end"))
    with pytest.raises(MeasuringError, match=r"position 'subjekt-2'"):
        tiny.read("edge-score", TASK, receiver=Receiver("q", (Head(1, 0),), "subjekt-2"))


def test_a_suite_that_asserts_on_it_is_refused_with_the_measure_to_take(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    with pytest.raises(SuiteError) as refused:
        load_suite(tmp_path / "suite.yaml")
    (said,) = str(refused.value).splitlines()
    assert said.startswith(f"{tmp_path / 'suite.yaml'}:5:16: ")
    assert says(said, "edge-score", "path-effect", "semantics: direct")
