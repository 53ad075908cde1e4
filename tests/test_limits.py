"""A limit of a model is told once in a run, whichever measures and assertions it refuses."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from auditing import Audited
from patching_cases import TASK
from said import says
from suite_texts import write
from test_survey import saved

from circuit_assertions.diagnosis.suite_verdicts import judge_all, named
from circuit_assertions.engine import LimitError
from circuit_assertions.engine.limits import Limit, limits_of
from circuit_assertions.heads import Head
from circuit_assertions.report.diagnosed import _assertions
from circuit_assertions.results import AuditResult
from circuit_assertions.results.diagnosis import JudgedAssertion
from circuit_assertions.verdict_words import Outcome

# What a state space model does not allow, as it is checked on opening: patterns of the two reasons.
NO_WRITES = r"\bblock 0\b.*?\bheads write\b"
NO_PATTERNS = r"\bblock 0\b.*?\battention pattern\b"
TASKS = {"ioi": {"kind": "ioi", "prompts": 48}, "again": {"kind": "repeated-tokens", "prompts": 48, "length": 8}}
OF_WRITES: dict[str, dict[str, Any]] = {
    "total": {"measure": "total-effect", "heads": ["L0H0"]},
    "another-total": {"measure": "total-effect", "heads": ["L1H0"]},
    "to-the-logits": {"measure": "path-effect", "heads": ["L0H0"]},
    "directly": {"measure": "path-effect", "heads": ["L0H0"], "semantics": "direct"},
    "faithful": {"measure": "faithfulness", "heads": ["L0H0"]},
    "faithful-too": {"measure": "faithfulness", "heads": ["L1H0"]},
}
OF_PATTERNS: dict[str, dict[str, Any]] = {
    "looks-at-the-subject": {"measure": "attention", "heads": ["L0H0"], "query": "end", "key": "subject-2"},
    "looks-back": {"measure": "previous-token-score", "heads": ["L0H0"], "task": "again"},
}
ANSWERS: dict[str, dict[str, Any]] = {"answers": {"measure": "logit-difference", "expect": {"at-least": -1000}}}


@pytest.fixture(scope="module")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model without heads to be seen, and a tokenizer for it."""
    return saved("mamba", tmp_path_factory.mktemp("mamba"))


@pytest.fixture(scope="module")
def options(mamba: tuple[Path, Path]) -> list[str]:
    return [f"--model={mamba[0]}", f"--tokenizer={mamba[1]}", "--model-device=cpu"]


def suite(*assertions: dict[str, dict[str, Any]]) -> str:
    told = [
        {"id": name, "task": "ioi", "expect": {"at-least": 0.1}} | one
        for some in assertions
        for name, one in some.items()
    ]
    return yaml.safe_dump({"suite": "x", "circuit": "ioi", "tasks": TASKS, "assertions": told}, sort_keys=False)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("CI", "1")  # pytest then cuts off no line
    files = {"suites/x.yaml": suite(OF_WRITES), "suites/y.yaml": suite(OF_PATTERNS, ANSWERS)}
    return write(pytester.path, {**files, "suites/test_x.py": PYTHON})


def times(reason: str, text: str) -> int:
    """How often a text tells a reason, which stands in one line."""
    return len(re.findall(reason, text))


def messages(junit: Path) -> dict[str, str]:
    """The messages of the test cases that failed, by name."""
    cases = ElementTree.parse(junit).getroot().iter("testcase")
    found = {str(case.get("name")): case.find("error") for case in cases}
    return {name: str(error.get("message")) for name, error in found.items() if error is not None}


def audit_of(project: Path) -> AuditResult:
    return AuditResult.model_validate_json((project / "audit.json").read_text())


def carries_the_limits(project: Path) -> None:
    """The record of the audit has each limit once, and of each assertion by which one it could not be measured."""
    audit = audit_of(project)
    (model,) = audit.models
    reasons = {limit.name: limit.reason for limit in model.limits}
    assert re.search(NO_WRITES, reasons["outputs, writes"])
    assert re.search(NO_PATTERNS, reasons["patterns"])
    assert {one.id: one.limit and (one.limit.name, one.limit.measure) for one in audit.assertions} == {
        **{name: ("outputs, writes", one["measure"]) for name, one in OF_WRITES.items()},
        **{name: ("patterns", one["measure"]) for name, one in OF_PATTERNS.items()},
        "answers": None,
    }
    properties = [
        json.loads(str(entry.get("value")))
        for entry in ElementTree.parse(project / "junit.xml").iter("property")
        if entry.get("name") == "circuit_limit"
    ]
    assert len(properties) == len(OF_WRITES) + len(OF_PATTERNS)
    assert {one["name"] for one in properties} == {"outputs, writes", "patterns"}


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "2", "--dist=load"), marks=pytest.mark.complete)], ids=["alone", "workers"]
)
def test_a_limit_is_told_once_whatever_it_refuses(
    pytester: pytest.Pytester, project: Path, options: list[str], workers: Sequence[str]
) -> None:
    """Six assertions over three measures meet one limit, two others another: two reasons, each told once."""
    suites = ("suites/x.yaml", "suites/y.yaml")
    run = pytester.runpytest_subprocess if workers else pytester.runpytest_inprocess
    result = run(
        *options,
        *suites,
        *workers,
        "-ra",
        "--junitxml=junit.xml",
        "--circuit-json=audit.json",
        "-p",
        "no:hypothesispytest",
    )
    text = result.stdout.str()
    result.assert_outcomes(errors=8, passed=1)
    carries_the_limits(project)
    assert [times(reason, text) for reason in (NO_WRITES, NO_PATTERNS)] == [1, 1], text
    for limit, reason in (("outputs, writes", NO_WRITES), ("patterns", NO_PATTERNS)):
        assert any(re.fullmatch(f"limits    {limit}: {reason}", line) for line in result.outlines), text
    writes, patterns = (line for line in result.outlines if f" {Outcome.ERROR.said}: " in line)
    assert writes.startswith(f'6 {Outcome.ERROR.said}: limit "outputs, writes" ')
    refused = ("total-effect (total, another-total)", "path-effect (to-the-logits, directly)")
    assert says(writes, *refused, "faithfulness (faithful, faithful-too)")
    assert patterns.startswith(f'2 {Outcome.ERROR.said}: limit "patterns" ')
    assert says(patterns, "attention (looks-at-the-subject)", "previous-token-score (looks-back)")
    said = messages(project / "junit.xml")
    assert set(said) == {*OF_WRITES, *OF_PATTERNS}
    for name, one in (OF_WRITES | OF_PATTERNS).items():
        limit = "outputs, writes" if name in OF_WRITES else "patterns"
        short = rf'{one["measure"]} .*: limit "{limit}" .*; the circuit audit .*'
        assert re.search(short, said[name])
        assert re.search(rf"^ERROR suites/.\.yaml::{name} - (Failed: )?{short}$", text, re.MULTILINE), text


@pytest.mark.usefixtures("opened_once", "project")
def test_a_limit_of_two_models_is_told_of_the_first(
    pytester: pytest.Pytester, mamba: tuple[Path, Path], options: list[str]
) -> None:
    shutil.copytree(mamba[0], pytester.path / "two")
    result = pytester.runpytest_inprocess(*options, "--model=two", "suites/x.yaml", "--circuit-json=audit.json")
    assert times(NO_WRITES, result.stdout.str()) == 1
    assert f"limits    outputs, writes: as for {mamba[0]}" in result.outlines
    assert sum(line.startswith(f"6 {Outcome.ERROR.said}: ") for line in result.outlines) == 2
    first, second = audit_of(pytester.path).models
    assert first.limits == second.limits  # a program reads every reason in full


PYTHON = """
import pytest

@pytest.mark.parametrize("measure", ["total-effect", "path-effect"])
def test_an_effect(audit, measure):
    audit.measure(measure, task="ioi", heads=["L0H0"])

def test_that_expects(audit):
    audit.expect("total-effect", task="ioi", heads=["L0H0"], at_least=0)

def test_that_catches(audit):
    with pytest.raises(Exception, match="block 0 .*heads write"):
        audit.measure("total-effect", task="ioi", heads=["L0H0"])
"""


@pytest.mark.usefixtures("opened_once", "project")
def test_a_limit_that_refuses_python_tests_is_told_once(pytester: pytest.Pytester, options: list[str]) -> None:
    result = pytester.runpytest_inprocess(*options, "suites/test_x.py", "--tb=short", "--circuit-json=audit.json")
    text = result.stdout.str()
    result.assert_outcomes(failed=3, passed=1)
    assert times(NO_WRITES, text) == 1, text
    (line,) = (line for line in result.outlines if line.startswith("3 failed in Python: "))
    total = "total-effect (test_an_effect[total-effect], test_that_expects)"
    assert says(line, 'limit "outputs, writes"', "path-effect (test_an_effect[path-effect])", total)
    assert 'audit.measure(measure, task="ioi", heads=["L0H0"])' in text  # where it was asked
    (model,) = audit_of(pytester.path).models
    assert {one.test: (one.limit.name, one.limit.measure) for one in model.refused} == {
        "test_an_effect[path-effect]": ("outputs, writes", "path-effect"),
        "test_an_effect[total-effect]": ("outputs, writes", "total-effect"),
        "test_that_expects": ("outputs, writes", "total-effect"),
    }


def test_one_limit_is_one_object_for_every_measure(mamba: tuple[Path, Path]) -> None:
    audited = Audited(mamba[0])
    object.__setattr__(audited.audit.opening, "tokenizer", str(mamba[1]))
    found = []
    for measure in ("total-effect", "path-effect", "faithfulness"):
        operands = {"set": (Head(0, 0),)} if measure == "faithfulness" else {}
        with pytest.raises(LimitError) as raised:
            audited.read(measure, TASK, *(() if operands else (Head(0, 0),)), **operands)
        assert (raised.value.measure, raised.value.checkpoint) == (measure, audited.checkpoint)
        assert re.search(NO_WRITES, str(raised.value))
        assert raised.value.limit.reason not in raised.value.short
        found.append(raised.value.limit)
    assert found[0] is found[1] is found[2] is audited.audit.model(audited.checkpoint).limits["writes"]


def test_facts_with_one_reason_have_one_limit() -> None:
    found = limits_of({"outputs": "x", "reads": "y", "writes": "x"})
    assert found == {"outputs": (both := Limit(("outputs", "writes"), "x")), "reads": Limit(("reads",), "y")} | {
        "writes": both
    }
    assert limits_of({}) == {}


def test_a_diagnosis_tells_a_limit_once(tmp_path: Path, mamba: tuple[Path, Path]) -> None:
    from circuit_assertions.assertions import load_suite
    from circuit_assertions.assertions.runner import SuiteRunner

    audited = Audited(mamba[0])
    object.__setattr__(audited.audit.opening, "tokenizer", str(mamba[1]))
    file = write(tmp_path, {"x.yaml": suite(OF_WRITES, OF_PATTERNS)}) / "x.yaml"
    judged = judge_all(SuiteRunner(audited.audit), audited.checkpoint, named([(load_suite(file), ())]))
    assert {one.verdict for one in judged.values()} == {"ERROR"}
    told = {name: JudgedAssertion(verdict=one.verdict, reason=one.reason) for name, one in judged.items()}
    lines = [line for line, _ in _assertions(told)]
    assert [sum(times(reason, line) for line in lines) for reason in (NO_WRITES, NO_PATTERNS)] == [1, 1]
    assert sum(line.endswith("as for total") for line in lines) == 5
    assert len({one.reason for one in judged.values()}) == 2
