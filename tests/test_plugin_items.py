"""Items as a pytest user meets them: verdicts as outcomes, selection, re-running, reports."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from suite_texts import TINY_SUITE, write

pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """A project whose suite holds, breaks and is skipped on any tiny model."""
    files = {
        "suites/tiny.yaml": TINY_SUITE,
        "tests/test_own.py": "def test_own():\n    raise RuntimeError('the own tests were run')\n",
        "pytest.ini": "[pytest]\nmarkers =\n    gate: must hold\naddopts = --strict-markers\n",
    }
    return write(pytester.path, files)


COUNTING_CONFTEST = """\
import gc
import pytest
from circuit_assertions.engine import Model

gc.collect()
gc.freeze()  # other tests of this process may keep some, and much else that would be searched each time

@pytest.hookimpl(trylast=True)
def pytest_runtest_call(item):
    gc.collect()
    print("open", sum(type(thing) is Model for thing in gc.get_objects()))

def pytest_unconfigure():
    gc.unfreeze()
"""


@pytest.fixture
def training_run(tiny_folder: Path, tmp_path: Path) -> Path:
    for step in (2, 10):
        shutil.copytree(tiny_folder, tmp_path / "run" / f"checkpoint-{step}")
    return tmp_path / "run"


def line_of(result: pytest.RunResult, start: str) -> str:
    return next(line for line in result.outlines if line.startswith(start))


@pytest.mark.usefixtures("project")
def test_a_broken_assertion_fails_with_its_explanation_and_the_others_do_not(
    pytester: pytest.Pytester, tiny_folder: Path
) -> None:
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", f"--baseline={tiny_folder}", "-v")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=3, failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "suites/tiny.yaml::holds PASSED*",
            "suites/tiny.yaml::breaks FAILED*",
            "BROKEN: *, expected at least 1000",
            "  *thousand nats*",
            "  expected  loss*at least 1000",
            "  measured  *[[]*, *]  baseline *",
            "  over      48 prompts*nats",
            "  level     99.8 % intervals*99 %",
            f"  reproduce pytest --model={tiny_folder} --baseline={tiny_folder} suites/tiny.yaml::breaks",
            "  HELD       holds *",
            "  BROKEN     breaks *",
            "verdicts  3 held, 1 broken, 1 skipped",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*judging.py*")


@pytest.mark.usefixtures("project")
def test_what_cannot_be_asked_is_skipped_with_the_reason(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "-rs", "-k", "by-role or against or looks-back")
    result.assert_outcomes(passed=1, skipped=2, deselected=2)
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED * no circuit file binds the roles of 'induction' for GPT2LMHeadModel of 3 layers x 4 heads*",
            "SKIPPED * everything it expects is relative to a baseline: give one with --baseline=path/",
        ]
    )


def test_a_misspelt_circuit_is_an_error_of_the_suite(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path
) -> None:
    write(project, {"suites/tiny.yaml": TINY_SUITE.replace("circuit: induction", "circuit: iio")})
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "-k", "holds")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["suites/tiny.yaml:2:1: *'iio' *'ioi'*"])


@pytest.mark.usefixtures("project")
def test_items_are_chosen_by_mark_keyword_and_node_id(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    model = f"--model={tiny_folder}"
    for chosen in (["-m", "gate"], ["-k", "breaks"], ["suites/tiny.yaml::breaks"]):
        result = pytester.runpytest_inprocess(model, "--collect-only", "-q", *chosen)
        assert [line for line in result.outlines if "::" in line] == ["suites/tiny.yaml::breaks"], chosen


def test_an_unknown_mark_is_reported_as_pytest_does(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path
) -> None:
    write(project, {"suites/tiny.yaml": TINY_SUITE.replace("[gate]", "[gaet]")})
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "--collect-only")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*'gaet' not found in `markers` configuration option"])


@pytest.mark.usefixtures("project")
def test_items_collect_under_strict_markers_without_xdist(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "--collect-only", "-q", "-p", "no:xdist")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["5 tests collected*"])


@pytest.mark.usefixtures("project")
def test_what_failed_is_run_again_by_last_failed(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    model = f"--model={tiny_folder}"
    pytester.runpytest_inprocess(model).assert_outcomes(passed=2, failed=1, skipped=2)
    pytester.runpytest_inprocess(model, "--lf").assert_outcomes(failed=1)


@pytest.mark.usefixtures("project")
def test_junit_files_carry_the_verdict(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    pytester.runpytest_inprocess(f"--model={tiny_folder}", "--junitxml=out.xml")
    cases = {case.get("name"): case for case in ElementTree.parse(pytester.path / "out.xml").iter("testcase")}
    assert set(cases) == {"holds", "breaks", "some-head-looks-back", "by-role", "against-the-baseline"}
    verdicts = {}
    for name, case in cases.items():
        properties = {entry.get("name"): json.loads(entry.get("value", "")) for entry in case.iter("property")}
        verdicts[name] = properties["circuit_assertion"]["outcome"]
    assert (verdicts["holds"], verdicts["breaks"], verdicts["by-role"]) == ("HELD", "BROKEN", "SKIPPED")


def unresolved_suite(folder: Path, pytester: pytest.Pytester) -> str:
    """The tiny suite with a bound that lies inside the interval of what it reads."""
    result = pytester.runpytest_inprocess(f"--model={folder}", "suites/tiny.yaml::holds")
    low, high = line_of(result, "  HELD       holds").partition("[")[2].partition("]")[0].split(", ")
    return TINY_SUITE.replace("at-least: 0.01}", f"at-least: {(float(low) + float(high)) / 2}}}", 1)


def test_an_unresolved_verdict_has_its_own_word_and_passes_unless_told_otherwise(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path
) -> None:
    write(project, {"suites/tiny.yaml": unresolved_suite(tiny_folder, pytester)})
    command = (f"--model={tiny_folder}", "suites/tiny.yaml::holds")
    result = pytester.runpytest_inprocess(*command, "-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*::holds UNRESOLVED*", "  UNRESOLVED holds *", "verdicts  1 unresolved", "*1 unresolved*"]
    )
    result.stdout.no_fnmatch_line("*1 skipped*")
    pytester.runpytest_inprocess(*command).stdout.fnmatch_lines(["suites/tiny.yaml u *"])

    failing = pytester.runpytest_inprocess(*command, "--circuit-unresolved=fail")
    assert failing.ret == pytest.ExitCode.TESTS_FAILED
    failing.stdout.fnmatch_lines(["UNRESOLVED: *", "FAILED suites/tiny.yaml::holds*"])

    write(project, {"pytest.ini": "[pytest]\nmarkers = gate: x\ncircuit_unresolved = fail\n"})
    assert pytester.runpytest_inprocess(*command).ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.usefixtures("project")
def test_each_checkpoint_of_a_training_run_has_its_items_in_step_order(
    pytester: pytest.Pytester, training_run: Path
) -> None:
    result = pytester.runpytest_inprocess(f"--model={training_run}", "--collect-only", "-q", "-k", "holds or breaks")
    assert [line for line in result.outlines if "::" in line] == [
        "suites/tiny.yaml::holds[checkpoint-2]",
        "suites/tiny.yaml::breaks[checkpoint-2]",
        "suites/tiny.yaml::holds[checkpoint-10]",
        "suites/tiny.yaml::breaks[checkpoint-10]",
    ]


@pytest.mark.complete
def test_only_one_checkpoint_is_open_beside_the_baseline(
    pytester: pytest.Pytester, project: Path, training_run: Path, tiny_folder: Path
) -> None:
    own_test = "def test_by_python(audit):\n    assert audit.checkpoint.label\n"
    write(project, {"conftest.py": COUNTING_CONFTEST, "tests/test_own.py": own_test})
    result = pytester.runpytest_inprocess(f"--model={training_run}", f"--baseline={tiny_folder}", ".", "-s", "-q")
    counts = [int(count) for count in re.findall(r"open (\d+)", result.stdout.str())]
    assert len(counts) == 8  # what passes: three assertions and the Python test, twice
    assert max(counts) == 2


@pytest.mark.usefixtures("project")
def test_models_of_the_same_name_have_items_of_their_own(
    pytester: pytest.Pytester, tiny_folder: Path, tmp_path: Path
) -> None:
    twins = [shutil.copytree(tiny_folder, tmp_path / parent / "final") for parent in "ab"]
    models = [f"--model={twin}" for twin in twins]
    result = pytester.runpytest_inprocess(*models, "--collect-only", "-q", "-k", "holds")
    listed = [line for line in result.outlines if "::" in line]
    assert listed == [f"suites/tiny.yaml::holds[{twin}]" for twin in twins]


def test_a_reproducing_command_says_everything_that_matters_and_can_be_pasted(
    pytester: pytest.Pytester, project: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    spaced = shutil.copytree(tiny_folder, tmp_path / "my model")
    write(project, {"pytest.ini": f"[pytest]\ncircuit_dtype = float64\ncircuit_model = {spaced}\nmarkers = gate: x\n"})
    result = pytester.runpytest_inprocess("-k", "breaks", "--model-device=cpu", "--circuit-unresolved=fail")
    said = "--model-device=cpu --model-dtype=float64 --circuit-unresolved=fail"
    result.stdout.fnmatch_lines([f"  reproduce pytest '--model={spaced}' {said} suites/tiny.yaml::breaks"])


def test_a_reference_model_holds_and_a_negated_name_mover_is_named(
    pytester: pytest.Pytester, reference_project: Path, reference_folder: Path, flipped_folder: Path
) -> None:
    shutil.copytree(reference_project, pytester.path, dirs_exist_ok=True)
    held = pytester.runpytest_inprocess(f"--model={reference_folder}")
    held.assert_outcomes(passed=4, skipped=1)
    held.stdout.fnmatch_lines(["circuit   reference.ioi.yaml (*lineage*assumed)", "verdicts  4 held, 1 skipped"])

    broken = pytester.runpytest_inprocess(
        f"--model={flipped_folder}", f"--baseline={reference_folder}", "--no-diagnosis"
    )
    broken.assert_outcomes(passed=4, failed=1)
    broken.stdout.fnmatch_lines(
        [
            "BROKEN: L4H1 -*, expected positive",
            "  expected  direct-effect of name-mover*positive",
            "  measured  L4H1  -* [[]-*, -*]  baseline *  BROKEN",
            "  worst     lowest prompts of L4H1",
            "  BROKEN     name-movers-push * L4H1 -*",
        ]
    )


def test_a_model_measured_with_hooks_is_said_to_be_slow(
    project: Path, pytester: pytest.Pytester, tmp_path: Path
) -> None:
    from patching_cases import NOT_RECOGNISED
    from reference_model import word_tokenizer
    from tiny_models import random_model

    words = word_tokenizer()
    config = next(iter(NOT_RECOGNISED.values()))(len(words))
    random_model(config).save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    assertion = "{id: moves, measure: path-effect, heads: any, task: ioi, expect: {at-least: -100}}"
    tasks = "tasks: {ioi: {kind: ioi, prompts: 48}}"
    write(project, {"suites/slow.yaml": f"suite: slow\n{tasks}\nassertions:\n  - {assertion}\n"})
    result = pytester.runpytest_inprocess(f"--model={tmp_path / 'model'}", "suites/slow.yaml")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*SlowPatchingWarning*path effects*hooks*"])
