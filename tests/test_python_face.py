"""The suite's vocabulary in Python: the `audit` fixture, readings that compare, and what a failure shows."""

from __future__ import annotations

import operator
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from said import says
from suite_texts import TINY_SUITE, write

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading

READING = Reading("attention", "share", "value", np.tile([[0.2, 0.9], [0.3, 0.95]], (8, 1)), (Head(0, 1), Head(1, 0)))


def test_a_reading_compares_when_every_head_lies_on_the_good_side() -> None:
    assert READING >= 0.1
    assert READING > 0.1
    assert READING <= 1
    assert READING < 1
    assert not READING >= 0.5
    assert not READING <= 0.5
    even = Reading("logit-difference", "logits", "value", np.full(16, 0.5))
    assert even >= 0.5
    assert even <= 0.5
    assert not even > 0.5
    assert not even < 0.5


@pytest.mark.parametrize("other", ["0.5", None, True, READING])
@pytest.mark.parametrize("compare", [operator.ge, operator.gt, operator.le, operator.lt])
def test_a_reading_compares_with_nothing_but_numbers(compare: Callable[[Any, Any], bool], other: object) -> None:
    with pytest.raises(TypeError):
        compare(READING, other)


@given(values=arrays(np.float64, (6, 2), elements=st.floats(-1e3, 1e3)), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_the_text_of_a_reading_does_not_depend_on_the_order_of_sums(values: NDArray[np.float64], seed: int) -> None:
    """Sums in another order differ in the last digits; the text, which snapshots keep, shows three."""
    near = values * (1 + np.random.default_rng(seed).uniform(-1e-13, 1e-13, values.shape))
    first, second = (Reading("effect", "logits", "value", one, (Head(0, 1), Head(10, 0))) for one in (values, near))
    numbers = [[float(one) for one in re.findall(r"-?\d[\d.e+-]*(?=[ ,\]])", repr(each))] for each in (first, second)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.011, abs=1e-6)
    assert [line.split()[0] for line in repr(first).splitlines()[1:]] == ["L0H1", "L10H0"]


def test_readings_are_equal_where_every_value_is() -> None:
    same = Reading("attention", "share", "value", READING.values.copy(), READING.components)
    assert same == READING
    assert same != Reading("attention", "share", "value", READING.values + 1e-9, READING.components)
    assert READING != "attention"
    with pytest.raises(CircuitAssertionsError, match=">="):
        assert READING == 0.5


OWN_AUDIT = """\
import pytest


@pytest.fixture
def audit():
    return "own"


def test_own(audit):
    assert audit == "own"
"""

PYTHON_TESTS = """\
import pytest
from circuit_assertions import CircuitAssertionsError


def test_movers(audit, snapshot):
    movers = audit.circuit("ioi").heads("name-mover")
    assert [str(head) for head in movers] == snapshot
    assert audit.measure("direct-effect", task={"kind": "ioi", "prompts": 16}, heads=movers) >= 0.1


def test_effects(audit, snapshot):
    assert audit.measure("direct-effect", task={"kind": "ioi", "prompts": 16}, heads=["L4H1", "L4H3"]) == snapshot
    assert audit.measure("loss", task={"kind": "ioi", "prompts": 16}) == snapshot


def test_backups(audit):
    task, backup = {"kind": "ioi", "prompts": 16}, audit.circuit("ioi").heads("backup-name-mover")
    movers = audit.circuit("ioi").heads("name-mover")
    by_name = audit.measure("direct-effect", task=task, heads=backup, without=[str(head) for head in movers])
    assert by_name > audit.measure("direct-effect", task=task, heads=backup).mean + 0.5
    assert (by_name.values == audit.measure("direct-effect", task=task, heads=backup, without=movers).values).all()


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        ("loos", {}, "unknown measure 'loos'"),
        ("attention", {"heads": ["L0H0"], "query": "end"}, "attention needs `key:`"),
        ("attention", {"heads": ["L0H0"], "query": "end", "key": "ende"}, "no position 'ende'"),
        ("induction-score", {}, "needs a task with repeat"),
        ("loss", {"heads": ["L0H0"]}, "a measure of the whole model"),
        ("loss", {"query": "end"}, "loss takes no `query`"),
        ("copy-score", {"heads": []}, "no head is given"),
        ("copy-score", {"heads": "L0"}, "L0.* is not a head"),
        ("copy-score", {"heads": ["L99H0"]}, "has no head L99H0"),
        ("loss", {"task": "iou"}, "is not a task"),
        ("loss", {"without": ["L4H1"]}, "loss takes no `without`"),
        ("direct-effect", {"without": ["L4"]}, "L4.* is not a head"),
        ("copy-score", {"heads": "name-mover"}, "'name-mover' is a role, and copy-score is read of heads: use"),
        ("direct-effect", {"without": ["L99H0"]}, "has no head L99H0"),
    ],
)
def test_mistakes(audit, measure, options, message):
    with pytest.raises(CircuitAssertionsError, match=message):
        audit.measure(measure, **({"task": "ioi"} | options))


def test_a_reading_alone(audit):
    with pytest.raises(CircuitAssertionsError, match="true .*false.* loss "):
        assert audit.measure("loss", task={"kind": "ioi", "prompts": 16})


def test_unknown_role(audit):
    with pytest.raises(CircuitAssertionsError, match="role 'name-movr' .*'name-mover'"):
        audit.circuit("ioi").heads("name-movr")
    assert audit.circuit("ioi").heads("duplicate-token") is not None


def test_unknown_circuit(audit):
    with pytest.raises(CircuitAssertionsError, match="circuit 'iio' .*'ioi'"):
        audit.circuit("iio")
"""


@pytest.mark.usefixtures("opened_once")
def test_python_tests_speak_the_suites_words_and_show_the_heads_that_do_not_hold(
    pytester: pytest.Pytester, reference_project: Path, reference_folder: Path, flipped_folder: Path
) -> None:
    shutil.copytree(reference_project, pytester.path, dirs_exist_ok=True)
    write(pytester.path, {"tests/test_heads.py": PYTHON_TESTS})
    missing = pytester.runpytest_inprocess(f"--model={reference_folder}", "tests", "-k", "movers")
    missing.assert_outcomes(failed=1, deselected=19)
    written = pytester.runpytest_inprocess(f"--model={reference_folder}", "tests", "--snapshot-update")
    written.assert_outcomes(passed=20)
    kept = (pytester.path / "tests" / "__snapshots__" / "test_heads.ambr").read_text()
    assert says(kept, "L4H3", "Reading of direct-effect", "16 prompts", "Reading of loss")
    assert str(reference_folder) not in kept
    again = pytester.runpytest_inprocess(f"--model={reference_folder}", "tests", "-k", "effects")
    again.assert_outcomes(passed=1, deselected=19)
    changed = pytester.runpytest_inprocess(f"--model={flipped_folder}", "tests", "-k", "effects")
    changed.assert_outcomes(failed=1, deselected=19)

    broken = pytester.runpytest_inprocess(f"--model={flipped_folder}", "tests", "-k", "movers")
    broken.assert_outcomes(failed=1, deselected=19)
    broken.stdout.fnmatch_lines(
        [
            "E * direct-effect >= 0.1",
            "E * over 16 prompts*",
            "E * L4H1  -* [[]-*, -*]  does not hold",
            "E * L4H3  * [[]*, *] *holds",
        ]
    )


@pytest.mark.usefixtures("opened_once")
def test_a_circuit_that_binds_nothing_here_skips_and_an_audit_of_ones_own_is_left_alone(
    pytester: pytest.Pytester, tiny_folder: Path
) -> None:
    files = {
        "suites/tiny.yaml": TINY_SUITE,
        "tests/test_roles.py": "def test_roles(audit):\n    audit.circuit('ioi')\n",
        "tests/test_own_audit.py": OWN_AUDIT,
    }
    write(pytester.path, files)
    other = shutil.copytree(tiny_folder, pytester.path / "other")
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", f"--model={other}", "tests", "-rs")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines([f"SKIPPED * circuit file *'ioi' for {tiny_folder}*"])
