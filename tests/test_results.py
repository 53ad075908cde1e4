"""Results: what a record carries, what it refuses, and that every output of an audit renders the same one."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from pydantic import ValidationError
from result_cases import line, line_of
from said import says
from suite_texts import TINY_SUITE, write
from test_report import AFTER, BEFORE, PUSHING, judged

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli import main
from circuit_assertions.measures import Reading as TakenReading
from circuit_assertions.plugin.reported import junit_properties
from circuit_assertions.results import RESULTS, AuditedModel, AuditResult, Figure, Reading, Reported
from circuit_assertions.results.audit import GateVerdict
from circuit_assertions.results.values import MOST_VALUES

GATE = GateVerdict(passed=True, exit_code=0, line="GATE: PASS (1 held)")


def test_a_judgement_survives_json_with_the_values_of_its_prompts() -> None:
    result = line_of(PUSHING, judged(PUSHING, AFTER, BEFORE))
    audit = AuditResult(models=(AuditedModel(model="tuned"),), assertions=(result,), gate=GATE)
    again = AuditResult.model_validate_json(audit.to_json())
    assert again == audit
    (read,) = again.assertions
    assert read.reading is not None
    assert set(read.reading.values) == {str(head) for head in AFTER.components}
    for head in AFTER.components:
        assert read.reading.values[str(head)] == pytest.approx(AFTER.of_head(head), rel=1e-6)
    worst = min(range(AFTER.prompts), key=lambda index: float(AFTER.of_head(AFTER.components[0])[index]))
    assert read.worst is not None
    assert read.worst.prompts[0] == (AFTER.of_head(AFTER.components[0])[worst], AFTER.texts[worst])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValidationError):
        Figure(mean=value, low=0.0, high=1.0)
    judgement = judged(PUSHING, AFTER, BEFORE)
    broken = replace(judgement, rows=(replace(judgement.rows[0], mean=value), *judgement.rows[1:]))
    with pytest.raises(CircuitAssertionsError, match=r"push-the-right-way.*tuned.*\bmean\b.*finite"):
        line_of(PUSHING, broken)


def test_a_record_of_a_later_version_and_unknown_fields_are_refused() -> None:
    plain = json.loads(AuditResult(gate=GATE).to_json())
    assert (plain["kind"], plain["schema_version"]) == ("audit", 1)
    assert set(plain["versions"]) >= {"circuit-assertions", "torch", "transformers"}
    for change in ({"schema_version": 2}, {"surprise": 1}, {"kind": "edges"}):
        with pytest.raises(ValidationError):
            AuditResult.model_validate(plain | change)


def test_of_a_large_reading_the_values_of_what_decided_are_kept() -> None:
    heads = AFTER.components
    prompts = MOST_VALUES // 2
    many = TakenReading("direct-effect", "logits", "mean", np.ones((prompts, 3)), heads)
    kept = Reading.of(many, first=["mean of 3 heads", str(heads[2]), str(heads[0])])
    assert list(kept.values) == [str(heads[2]), str(heads[0])]
    assert kept.components == tuple(map(str, heads))
    whole = Reading.of(TakenReading("loss", "nats", "mean", np.ones(4)))
    assert whole.values == {"model": (1.0, 1.0, 1.0, 1.0)}


def test_junit_files_have_no_values_of_prompts() -> None:
    reported = Reported(assertions=(line_of(PUSHING, judged(PUSHING, AFTER, BEFORE)),), reason="r")
    properties = dict(junit_properties(reported))
    said = json.loads(properties["circuit_assertion"])
    assert (said["outcome"], said["reading"]["prompts"], said["reading"]["values"]) == ("BROKEN", AFTER.prompts, {})
    assert json.loads(properties["circuit_error"]) == "r"
    of_python = Reported(assertions=(line("m", "t.py", "a", "HELD"), line("m", "t.py", "b", "HELD")), of_suite=False)
    (listed,) = dict(junit_properties(of_python)).values()
    assert [one["id"] for one in json.loads(listed)] == ["a", "b"]


@pytest.mark.parametrize("kind", RESULTS)
def test_every_kind_has_a_published_schema(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--result", kind]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"]["kind"]["const"] == kind
    assert {"schema_version", "versions"} <= set(schema["properties"])


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    files = {"suites/a.yaml": TINY_SUITE, "pytest.ini": "[pytest]\nmarkers = gate: x\ncircuit_json = audit.json\n"}
    write(folder := pytester.mkdir("project"), files)
    os.chdir(folder)
    return folder


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "1"), marks=[pytest.mark.slow, pytest.mark.complete])], ids=["alone", "workers"]
)
def test_the_file_the_terminal_and_junit_say_the_same(
    workers: tuple[str, ...], pytester: pytest.Pytester, project: Path, tiny_folder: Path
) -> None:
    given = (f"--model={tiny_folder}", "--junitxml=out.xml", *workers)
    result = pytester.runpytest_inprocess(*given)
    audit = AuditResult.model_validate_json((project / "audit.json").read_text())
    assert audit.gate.line == next(text for text in result.outlines if text.startswith("GATE: "))
    assert (audit.gate.passed, audit.gate.exit_code) == (False, 1)
    (model,) = audit.models
    assert model.facts is not None
    result.stdout.fnmatch_lines([f"model     {model.model}", f"weights   {model.facts.fingerprint[:16]}"])
    told = [text.split()[:2] for text in result.outlines if text.startswith("  ") and text.split()[0].isupper()]
    assert sorted([one.outcome, one.id] for one in audit.assertions) == sorted(told)
    lines = (project / "suites" / "a.yaml").read_text().splitlines()
    for one in audit.assertions:
        assert one.line is not None
        assert f"id: {one.id}" in lines[one.line - 1]
        values = one.reading.values if one.reading is not None else {}
        assert bool(values) == (one.outcome in ("HELD", "BROKEN", "UNRESOLVED"))
        assert one.reading is None or {len(column) for column in values.values()} == {one.reading.prompts}
    cases = {case.get("name"): case for case in ElementTree.parse(project / "out.xml").iter("testcase")}
    for one in audit.assertions:
        (said,) = [
            json.loads(entry.get("value", ""))
            for entry in cases[one.id].iter("property")
            if entry.get("name") == "circuit_assertion"
        ]
        assert said == one.without_values().model_dump(mode="json")


def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path
) -> None:
    for name in ("nowhere/audit.json", "suites"):
        result = pytester.runpytest_inprocess(f"--model={tiny_folder}", f"--circuit-json={name}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert says(result.stderr.str(), f"--circuit-json={name}")
    assert not (project / "audit.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.usefixtures("opened_once", "project")
def test_a_file_that_turns_out_not_to_be_writable_fails_the_run(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "--circuit-json=/dev/full", "suites/a.yaml::holds")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["/dev/full cannot be written: *", "GATE: FAIL (*"])
