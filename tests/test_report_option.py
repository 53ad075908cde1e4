"""`--circuit-report=FILE`: which file it writes, what is read for it, and that workers change nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from auditing import HEALTHY
from diagnosis_cases import leave_out_origin
from said import says
from suite_texts import write

from circuit_assertions.cli import main
from circuit_assertions.report.explaining import figure_text
from circuit_assertions.report.page import page
from circuit_assertions.results import AuditResult
from circuit_assertions.verdict_words import Outcome

pytestmark = pytest.mark.usefixtures("opened_once")

POISONED = HEALTHY.parent / "poisoned-heads"
SUITE = """\
suite: indirect objects
circuit: ioi

tasks:
  ioi: {kind: ioi, prompts: 32}

assertions:
  - id: answers
    measure: logit-difference
    task: ioi
    expect: {at-least: 0.0}
    why: the model prefers the other name

  - id: name-movers-copy
    measure: copy-score
    heads: name-mover
    task: ioi
    expect: {at-least: 0.5}
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    write(pytester.path, {"suites/ioi.yaml": SUITE})
    return pytester


def audit(project: pytest.Pytester, *options: str) -> tuple[pytest.RunResult, AuditResult]:
    """A run that writes report.json too, and what that holds."""
    done = project.runpytest_inprocess(*options, "--circuit-report=report.json", "-p", "no:cacheprovider")
    return done, AuditResult.model_validate_json((project.path / "report.json").read_text("utf-8"))


def test_each_suffix_has_its_format_and_the_heads_are_read(project: pytest.Pytester) -> None:
    done, result = audit(project, f"--model={HEALTHY}", "--circuit-report=out.html", "--circuit-report=OUT.MD")
    assert done.ret == 0
    assert (project.path / "out.html").read_text("utf-8") == page(result)
    assert (project.path / "OUT.MD").read_text("utf-8").startswith("## ")
    (shown,) = result.circuits
    assert (shown.circuit, shown.baseline, shown.prompts) == ("ioi", None, 32)
    assert len(shown.effects) == shown.layers * shown.heads == 20
    assert shown.roles["name-mover"] == ("L3H0", "L3H1", "L3H2", "L3H3")
    for prompt in shown.looked_at:
        for head in prompt.heads:
            assert len(head.shares) == head.query + 1 <= len(prompt.tokens)
            assert sum(head.shares) == pytest.approx(1.0, abs=0.01)
            assert head.before is None
    movers = [one for one in shown.looked_at[0].heads if one.role == "name-mover"]
    assert len(movers) == 4
    assert all(one.key is not None and one.query == len(shown.looked_at[0].tokens) - 1 for one in movers)
    assert all(one.before is None for one in shown.effects.values())


def test_with_a_baseline_both_models_are_shown_as_the_diagnosis_has_them(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_origin(monkeypatch)
    _, result = audit(project, f"--model={POISONED}", f"--baseline={HEALTHY}")
    (shown,), (found,) = result.circuits, result.diagnoses
    for name, head in found.roles["name-mover"].heads.items():
        effect = shown.effects[name]
        assert effect.before is not None
        assert effect.change is not None
        assert effect.before.mean == pytest.approx(head.before.mean)
        assert effect.after.mean == pytest.approx(head.after.mean)
        assert effect.change.mean == pytest.approx(effect.after.mean - effect.before.mean, abs=1e-9)
    assert shown.looked_at[0].heads[0].before is not None


def test_nothing_more_is_read_where_no_report_is_asked_for(project: pytest.Pytester) -> None:
    done = project.runpytest_inprocess(f"--model={HEALTHY}", "--circuit-json=audit.json")
    assert done.ret == 0
    assert json.loads((project.path / "audit.json").read_text("utf-8"))["circuits"] == []


@pytest.mark.parametrize("name", ["report.pdf", "report", "nowhere/report.html"])
def test_another_suffix_or_folder_is_refused_before_any_work(name: str, project: pytest.Pytester) -> None:
    done = project.runpytest_inprocess(f"--model={HEALTHY}", f"--circuit-report={name}")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    said = done.stderr.str()
    assert says(said, f"--circuit-report={name}")
    assert says(said, ".html", ".json", ".md") == (not name.endswith(".html"))


def test_two_outputs_of_one_file_are_refused(project: pytest.Pytester) -> None:
    done = project.runpytest_inprocess(f"--model={HEALTHY}", "--circuit-report=a.json", "--circuit-json=a.json")
    assert done.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.complete
def test_the_configuration_names_reports_too(project: pytest.Pytester) -> None:
    (project.path / "pytest.ini").write_text("[pytest]\ncircuit_report = a.md b.html\n")
    done, _ = audit(project, f"--model={HEALTHY}")
    assert done.ret == 0
    assert not (project.path / "a.md").exists()  # the command line wins
    assert project.runpytest_inprocess(f"--model={HEALTHY}").ret == 0
    assert (project.path / "a.md").is_file()
    assert (project.path / "b.html").is_file()


@pytest.mark.complete
@pytest.mark.parametrize("models", [(POISONED,), (HEALTHY, POISONED)], ids=["one", "two"])
def test_workers_change_nothing(models: tuple[Path, ...], project: pytest.Pytester) -> None:
    given = [f"--model={model}" for model in models]
    _, alone = audit(project, *given)
    _, spread = audit(project, *given, "-n", "2")
    assert [one.model for one in spread.circuits] == [str(model) for model in models]
    assert alone.circuits == spread.circuits
    told = [(line.model, line.id, line.counted) for line in alone.assertions]
    assert told == [(line.model, line.id, line.counted) for line in spread.assertions]


def test_a_step_of_github_has_a_summary_and_annotations(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path))
    done, result = audit(project, f"--model={POISONED}")
    summary = (project.path / "summary.md").read_text("utf-8")
    assert summary.startswith("## ")
    broken = [line for line in result.assertions if line.outcome == Outcome.BROKEN]
    assert broken
    commands = [line for line in done.outlines if line.startswith("::")]
    assert len(commands) == len(broken)
    for command, line in zip(commands, broken, strict=True):
        assert command.startswith(f"::error file=suites/ioi.yaml,line={line.line},title={line.id}::")
    text = (project.path / "suites" / "ioi.yaml").read_text().splitlines()
    assert all(line.line is not None and line.id in text[line.line - 1] for line in broken)


@pytest.mark.usefixtures("project")
def test_audit_prints_its_result_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["audit", str(HEALTHY), "--json", "-k", "answers-right"])
    out, err = capsys.readouterr()
    result = AuditResult.model_validate_json(out)
    assert result.gate.exit_code == code == 0
    (line,) = result.assertions
    assert figure_text(line.rows[0].figure) in err
    assert re.search(r"^GATE: ", err, re.MULTILINE)
    assert main(["audit", str(HEALTHY), "--json", "--circuit-report=x.pdf"]) == pytest.ExitCode.USAGE_ERROR
    assert capsys.readouterr().out == ""
