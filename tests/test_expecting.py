"""`audit.expect(...)` in Python gives the verdict that a suite gives, with its words, its outcome and its summary."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from auditing import HEALTHY
from result_cases import explained
from said import says
from suite_texts import write

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Judgement, SuiteError, load_suite
from circuit_assertions.assertions.packaged import circuits_beside, packaged_suites, usual_suites
from circuit_assertions.assertions.runner import NotApplicable, PlannedAssertion, SuiteRunner
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.heads import Head
from circuit_assertions.measures import Receiver
from circuit_assertions.plugin.audit_fixture import AuditedCheckpoint

FEW = 128  # with fewer, no share of 95 % can be shown


def packaged() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every assertion of the usual packaged suites: the circuit, the task, and the assertion as YAML has it."""
    for file in usual_suites():
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        for assertion in values["assertions"]:
            yield values.get("circuit", file.stem), values["tasks"][assertion["task"]] | {"prompts": FEW}, assertion


# What no packaged suite says.
MORE: tuple[dict[str, Any], ...] = (
    {"measure": "logit-difference", "expect": {"at-least": 1000}},
    {"measure": "logit-difference", "expect": {"between": [0, 100], "mostly": "50%"}},
    {"measure": "attention", "heads": ["L3H0", [3, 1]], "query": "end", "key": "end", "expect": {"at-most": 0.5}},
    {"measure": "attention", "heads": "all", "layers": [3, 4], "at-least-heads": 2, "query": "end"}
    | {"key": "indirect-object", "expect": {"at-least": 0.3}},
    {"measure": "direct-effect", "heads": "L3H0", "expect": {"sign": "positive", "rank-within": 3, "retains": 0.8}},
    {"measure": "direct-effect", "heads": "backup-name-mover", "without": "name-mover", "expect": {"sign": "positive"}},
    {"measure": "total-effect", "components": ["L3H0", "MLP4", "RESID2"], "at": "end", "expect": {"at-least": -50}},
    {"measure": "path-effect", "components": "mlps", "quantifier": "any", "receiver": "logits"}
    | {"semantics": "direct", "expect": {"at-least": 0.1}},
    {"measure": "path-effect", "heads": "s-inhibition", "receiver": {"query": "name-mover", "at": "end"}}
    | {"expect": {"sign": "positive"}},
    {"measure": "ablation-effect", "heads": "circuit", "ablation": "zero", "expect": {"at-least": 0}},
    {"measure": "role-stability", "heads": "name-mover", "expect": {"at-least": 0.5}},
)
ASSERTIONS = [
    *packaged(),
    *(
        ("ioi", {"kind": "ioi", "prompts": FEW}, {"id": f"more-{number}", "task": "ioi"} | said)
        for number, said in enumerate(MORE)
    ),
]


@pytest.fixture(scope="module")
def runner() -> SuiteRunner:
    baseline = find_checkpoints(str(HEALTHY))[0]
    runner = SuiteRunner(Audit(Opening(device="cpu", base=baseline), baseline), baseline)
    from circuit_assertions.diagnosis.comparing_measures import ComparingMeasures

    runner.compare = ComparingMeasures(runner.audit, baseline, None, runner.audit.progress)
    return runner


def in_python(assertion: dict[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in assertion.items() if key not in ("id", "measure", "task", "expect", "marks")}
    return {key.replace("-", "_"): value for key, value in (said | assertion["expect"]).items()}


def cases() -> Iterator[Any]:
    """Every assertion of the healthy model; of the poisoned one, the normal run has one of each measure."""
    seen = set()
    for name in ("healthy", "poisoned"):
        for circuit, task, said in ASSERTIONS:
            left_out = name == "poisoned" and said["measure"] in seen
            seen |= {said["measure"]} if name == "poisoned" else set()
            marks = pytest.mark.complete if left_out else ()
            yield pytest.param(HEALTHY.parent / name, circuit, task, said, marks=marks, id=f"{name}-{said['id']}")


@pytest.mark.sample(24)
@pytest.mark.parametrize(("model", "circuit", "task", "assertion"), [*cases()])
def test_the_verdict_is_that_of_the_suite(
    tmp_path: Path, runner: SuiteRunner, model: Path, circuit: str, task: dict[str, Any], assertion: dict[str, Any]
) -> None:
    checkpoint = find_checkpoints(str(model))[0]
    file = tmp_path / "one.yaml"
    values = {"suite": "one", "circuit": circuit, "tasks": {assertion["task"]: task}, "assertions": [assertion]}
    file.write_text(yaml.safe_dump(values))
    circuits = circuits_beside(packaged_suites())
    loaded = load_suite(file, circuits)
    expected = runner.judge(PlannedAssertion(loaded, loaded.suite.assertions[0], checkpoint, circuits))

    seen: list[tuple[PlannedAssertion, Judgement | NotApplicable]] = []
    face = AuditedCheckpoint(runner, checkpoint, circuits, lambda asked, judged: seen.append((asked, judged)))
    said = in_python(assertion)
    judged = face.expect(assertion["measure"], task=task, circuit=circuit, **said)
    assert seen[0][1] == (judged or seen[0][1])
    if isinstance(expected, NotApplicable):
        assert judged is None
        assert seen[0][1] == expected
    else:
        assert judged is not None
        assert judged.verdict is expected.verdict
        words = loaded.suite.assertions[0]
        assert explained(judged, seen[0][0].assertion, "again") == explained(expected, words, "again")


@pytest.fixture
def face(runner: SuiteRunner) -> AuditedCheckpoint:
    return AuditedCheckpoint(runner, find_checkpoints(str(HEALTHY))[0], circuits_beside(packaged_suites()))


def test_values_of_python_are_those_of_a_suite(face: AuditedCheckpoint) -> None:
    import numpy as np

    task = {"kind": "ioi", "prompts": FEW}
    movers = face.circuit("ioi").heads("name-mover")
    by_role = face.expect("direct-effect", task=task, heads="name-mover", at_least=0.01)
    by_heads = face.expect("direct-effect", task=task, heads=movers, at_least=np.float32(0.01))
    assert by_role is not None
    assert by_heads is not None
    assert by_role.rows == by_heads.rows
    receiver = Receiver("q", movers, "end")
    one = face.expect("path-effect", task=task, heads=Head(1, 0), receiver=receiver, sign="positive")
    other = face.expect("path-effect", task=task, heads="L1H0", receiver={"query": "name-mover"}, sign="positive")
    assert one is not None
    assert other is not None
    assert one.rows == other.rows


MISTAKES: tuple[tuple[str, dict[str, Any], list[str]], ...] = (
    ("attenton", {"at_least": 0}, ["measure 'attenton'", "'attention'"]),
    ("loss", {}, ["nothing", "at-least"]),
    ("loss", {"at_leest": 1}, ["argument 'at_leest'", "'at_least'"]),
    ("loss", {"at_least": "much"}, ["at_least: 'much'"]),
    ("loss", {"heads": "any", "at_least": 1}, ["loss", "whole model"]),
    ("attention", {"heads": "any", "query": "end", "at_least": 1}, ["attention", "`key:`"]),
    ("attention", {"heads": "any", "query": "end", "key": "ende", "at_least": 1}, ["position 'ende'"]),
    ("copy-score", {"heads": "name-movr", "at_least": 1}, ["role 'name-movr'", "'name-mover'"]),
    ("copy-score", {"heads": 9.1, "at_least": 1}, ["9.1", "9.10"]),
    ("copy-score", {"heads": "any", "at_least": 2, "at_most": 1}, ["at-least", "at-most", "both"]),
    ("loss", {"task": "iou", "at_least": 0}, ["'iou'", "task"]),
    ("loss", {"circuit": "iio", "at_least": 0}, ["circuit 'iio'", "'ioi'"]),
)


@pytest.mark.parametrize(("measure", "said", "named"), MISTAKES)
def test_what_a_suite_could_not_say_is_refused_by_name(
    face: AuditedCheckpoint, measure: str, said: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(CircuitAssertionsError) as raised:
        face.expect(measure, **({"task": "ioi"} | said))
    assert says(raised.value, *named)
    assert not isinstance(raised.value, SuiteError)


# -- in a run -------------------------------------------------------------------------------------------------------

TESTS = """\
import pytest

TASK = {"kind": "repeated-tokens", "prompts": 48, "length": 8}


def test_holds(audit):
    judged = audit.expect("loss", task=TASK, at_least=0.01)
    assert judged.verdict.value == "HELD"


def test_breaks(audit):
    audit.expect("loss", task=TASK, at_least=1000, why="a loss of a thousand nats was promised")
    raise RuntimeError("this is not reached")


def test_open(audit):
    mean = audit.measure("loss", task=TASK).mean
    audit.expect("loss", task=TASK, at_least=mean)
    audit.expect("loss", task=TASK, at_least=0.01)


def test_open_then_broken(audit):
    mean = audit.measure("loss", task=TASK).mean
    audit.expect("loss", task=TASK, at_least=mean)
    audit.expect("loss", task=TASK, at_least=1000)


def test_open_then_wrong(audit):
    mean = audit.measure("loss", task=TASK).mean
    audit.expect("loss", task=TASK, at_least=mean)
    assert 1 == 2


def test_not_asked(audit):
    assert audit.expect("loss", task=TASK, retains="80%") is None


def test_asked_in_part(audit):
    audit.expect("loss", task=TASK, retains="80%")
    audit.expect("loss", task=TASK, at_least=0.01)


@pytest.mark.parametrize("least", [0.01, 0.1])
def test_each(audit, least):
    audit.expect("loss", task=TASK, at_least=least)
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    return write(pytester.path, {"tests/test_it.py": TESTS})


@pytest.mark.usefixtures("opened_once", "project")
def test_the_outcomes_are_those_of_a_suite(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "tests", "-v", "-rs")
    text = result.stdout.str()
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "*::test_holds PASSED *",
            "*::test_breaks FAILED *",
            "*::test_open UNRESOLVED *",
            "*::test_open_then_broken FAILED *",
            "*::test_open_then_wrong FAILED *",
            "*::test_not_asked SKIPPED *",
            "*::test_asked_in_part PASSED *",
            "*::test_each[[]0.01[]] PASSED *",
        ]
    )
    assert "3 failed, 4 passed, 1 skipped, 1 unresolved in" in text
    assert "E   *NotHeldError" not in text
    result.stdout.fnmatch_lines(
        [
            '>*audit.expect("loss", task=TASK, at_least=1000, why=*',
            "E *BROKEN: *, expected at least 1000",
            "E *thousand nats*",
            f"E *reproduce pytest --model={tiny_folder} tests/test_it.py::test_breaks",
        ]
    )
    result.stdout.fnmatch_lines(
        [
            "tests/test_it.py",
            "  HELD       test_holds: loss *",
            "  BROKEN     test_breaks: loss *",
            "  UNRESOLVED test_open: loss *",
            "  HELD       test_open: loss (2) *",
            "  UNRESOLVED test_open_then_broken: loss *",
            "  BROKEN     test_open_then_broken: loss (2) *",
            "  SKIPPED    test_not_asked: loss",
            "verdicts  5 held, 2 broken, 3 unresolved, 2 skipped",
        ]
    )


@pytest.mark.usefixtures("opened_once", "project")
def test_unresolved_fails_where_it_is_to(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    result = pytester.runpytest_inprocess(
        f"--model={tiny_folder}", "tests", "-k", "test_open and not then", "--circuit-unresolved=fail"
    )
    result.assert_outcomes(failed=1, deselected=8)
    result.stdout.fnmatch_lines(["E *UNRESOLVED: *"])


@pytest.mark.complete
@pytest.mark.usefixtures("project")
def test_with_workers_and_several_checkpoints_each_has_its_lines(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    other = shutil.copytree(tiny_folder, pytester.path / "other")
    models = [f"--model={tiny_folder}", f"--model={other}"]
    result = pytester.runpytest_subprocess(*models, "-n", "1", "tests", "-k", "breaks or each")
    text = result.stdout.str()
    assert "2 failed, 4 passed in" in text
    assert f"reproduce pytest --model={other} tests/test_it.py::test_breaks" in text
    assert text.count("  HELD       test_each[0.1]: loss ") == 2
    assert text.count("verdicts  2 held, 1 broken") == 2
