"""A suite about several circuits, and suites that are run only where they are named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from auditing import HEALTHY
from said import says
from suite_texts import write

from circuit_assertions.assertions import SuiteError, load_suite
from circuit_assertions.assertions.packaged import circuits_beside, only_by_name, usual_suites
from circuit_assertions.places import packaged_suites

pytestmark = pytest.mark.usefixtures("opened_once")

SUITE = """\
suite: two circuits
circuit: ioi
{by_name}
tasks:
  ioi: {{kind: ioi, prompts: 64}}
  repeated: {{kind: repeated-tokens, prompts: 64}}
assertions:
  - {{id: of-the-suites, measure: attention, heads: name-mover, quantifier: mean, query: end, key: indirect-object,
     task: ioi, expect: {{at-least: 0.2}}}}
  - {{id: of-its-own, circuit: {circuit}, measure: induction-score, heads: induction, quantifier: mean, task: repeated,
     expect: {{at-least: proposed}}}}
"""


def suite(folder: Path, circuit: str = "induction", by_name: str = "") -> Path:
    name = "suites/both.yaml"
    return write(folder, {name: SUITE.format(circuit=circuit, by_name=by_name)}) / name


def test_each_assertion_has_the_roles_and_the_bounds_of_its_own_circuit(pytester: pytest.Pytester) -> None:
    file = suite(pytester.path)
    result = pytester.runpytest_inprocess(f"--model={HEALTHY}", str(file), "-n0")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*HELD *of-its-own *from embedded.induction.yaml)*"])


def test_a_circuit_that_nobody_knows_is_refused_with_its_place(tmp_path: Path) -> None:
    file = suite(tmp_path, circuit="inductoin")
    with pytest.raises(SuiteError) as raised:
        load_suite(file, circuits_beside(file))
    assert says(str(raised.value), "unknown circuit 'inductoin'", "did you mean 'induction'")


def test_a_suite_that_wants_its_name_is_left_out_of_its_folder(pytester: pytest.Pytester) -> None:
    file = suite(pytester.path, by_name="by-name: true")
    assert only_by_name(file)
    asked = (f"--model={HEALTHY}", "-n0", "--collect-only", "-q")
    assert "of-its-own" not in pytester.runpytest_inprocess(*asked, str(file.parent)).stdout.str()
    assert "of-its-own" in pytester.runpytest_inprocess(*asked, str(file)).stdout.str()
    assert "of-its-own" in pytester.runpytest_inprocess(*asked, f"{file}::of-its-own").stdout.str()


def test_the_packaged_suites_that_are_run_by_themselves_are_the_two_that_every_model_can_answer() -> None:
    assert [file.stem for file in usual_suites()] == ["induction", "ioi"]


def test_every_circuit_of_a_packaged_suite_is_in_the_one_about_all() -> None:
    folder = packaged_suites()
    loaded = {file.stem: load_suite(file, circuits_beside(file)) for file in sorted(folder.glob("*.yaml"))}
    breadth = loaded.pop("breadth")
    assert set(breadth.circuits) == {one.circuit for one in loaded.values()}
    texts = {name: getattr(task, "texts", None) for name, task in breadth.suite.tasks.items()}
    for one in loaded.values():
        name, task = next(iter(one.suite.tasks.items()))
        assert texts[name] == getattr(task, "texts", None)


@pytest.mark.complete
def test_the_suite_about_all_circuits_skips_those_that_a_model_lacks_with_the_reason(pytester: pytest.Pytester) -> None:
    file = packaged_suites() / "breadth.yaml"
    text = file.read_text(encoding="utf-8").replace("prompts: 128", "prompts: 64")
    mine = write(pytester.path, {"suites/breadth.yaml": text}) / "suites" / "breadth.yaml"
    result = pytester.runpytest_inprocess(f"--model={HEALTHY}", str(mine), "-n0", "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    loaded = load_suite(mine, circuits_beside(mine))
    counted = Counter(map(loaded.circuit_of, loaded.suite.assertions))
    assert outcomes["skipped"] >= sum(counted.values()) - counted["ioi"] - counted["induction"]
    assert "failed" not in outcomes
    assert outcomes["passed"] >= 8
    result.stdout.fnmatch_lines(["*skipped: *'docstring'*", "GATE: PASS*"])
