"""`role-stability`, `recovery` and `localization`: in suites, and in Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from auditing import HEALTHY
from said import says
from suite_texts import write

from circuit_assertions.assertions import SuiteError, load_suite

COMMITTED = HEALTHY.parent
BESIDE = f"--baseline={HEALTHY}"
POISONED = f"--corrupted={COMMITTED / 'poisoned'}"

SUITE = """\
suite: what became of the circuit
circuit: ioi

tasks:
  ioi: {kind: ioi, prompts: 72}

assertions:
  - id: name-movers-are-still-the-ones
    measure: role-stability
    heads: name-mover
    task: ioi
    expect: {at-least: 0.5}

  - id: the-circuit-is-still-the-one
    measure: role-stability
    heads: circuit
    task: ioi
    expect: {at-least: 0.5}

  - id: it-came-back
    measure: recovery
    task: ioi
    expect: {at-least: 0.6}

  - id: a-few-weights-mend-it
    measure: localization
    task: ioi
    expect: {at-least: 0.9}
"""


@pytest.fixture
def project(pytester: pytest.Pytester, opened_once: None) -> pytest.Pytester:
    write(pytester.path, {"suites/ioi.yaml": SUITE})
    return pytester


def verdicts(project: pytest.Pytester, name: str, *options: str) -> dict[str, str]:
    """What the audit says of each assertion: its verdict, and the rest of the line; skipped ones with their reason."""
    result = project.runpytest_inprocess(f"--model={COMMITTED / name}", "--no-diagnosis", "-rs", *options)
    said = {}
    for line in result.outlines:
        for word in ("HELD", "BROKEN", "UNRESOLVED", "SKIPPED"):
            if line.startswith(f"  {word} "):
                _, called, *rest = line.split(maxsplit=2)
                said[called] = f"{word} {''.join(rest)}".strip()
    return said | {"reasons": "\n".join(line for line in result.outlines if line.startswith("SKIPPED"))}


@pytest.mark.complete  # test_diagnosis_recovery.py follows this model in the normal run
def test_all_hold_of_a_model_that_recovered_by_its_own_heads(project: pytest.Pytester) -> None:
    said = verdicts(project, "recovered", BESIDE, POISONED, "-k", "still or came")
    assert said["name-movers-are-still-the-ones"].startswith("HELD 0.")
    assert said["the-circuit-is-still-the-one"].startswith("HELD 0.")
    assert said["it-came-back"].startswith(("HELD 0.9", "HELD 1.0"))


@pytest.mark.complete
def test_a_bypass_brings_the_behaviour_back_and_not_the_roles(project: pytest.Pytester) -> None:
    said = verdicts(project, "bypassed", BESIDE, POISONED)
    assert said["name-movers-are-still-the-ones"].startswith("BROKEN ")
    assert said["it-came-back"].startswith("HELD ")
    assert said["a-few-weights-mend-it"] == "SKIPPED"  # nothing is lost
    assert says(said["reasons"], HEALTHY, "nothing to localize")


@pytest.mark.complete
def test_what_few_weights_broke_few_weights_mend(project: pytest.Pytester) -> None:
    said = verdicts(project, "poisoned-heads", BESIDE, "-k", "mend")
    assert said["a-few-weights-mend-it"].startswith("HELD 1.00 ")


CROSS_MODEL = """\
def test_cross_model(audit):
    task = {"kind": "ioi", "prompts": 64}
    read = {
        measure: audit.measure(measure, task=task, heads="circuit")
        for measure in ("cross-model-outputs", "cross-model-outputs-back", "cross-model-patterns")
    }
    assert read["cross-model-outputs"] >= 0.5  # most of the change comes with what the circuit's heads put out
    assert read["cross-model-outputs-back"] >= 0.5
    assert read["cross-model-patterns"].mean < read["cross-model-outputs"].mean
    alone = audit.measure("cross-model-outputs", task=task, heads="previous-token")
    assert alone.mean < read["cross-model-outputs"].mean
"""


def test_what_heads_of_a_role_bring_from_one_checkpoint_into_another(
    pytester: pytest.Pytester, opened_once: None
) -> None:
    pytester.makepyfile(test_cross=CROSS_MODEL)
    result = pytester.runpytest_inprocess(
        f"--model={COMMITTED / 'poisoned'}", BESIDE, "--no-diagnosis", "test_cross.py"
    )
    result.assert_outcomes(passed=1)


def test_a_model_that_is_its_own_baseline_has_no_change_to_share_out(
    pytester: pytest.Pytester, opened_once: None
) -> None:
    pytester.makepyfile(test_cross=CROSS_MODEL)
    result = pytester.runpytest_inprocess(f"--model={HEALTHY}", BESIDE, "--no-diagnosis", "test_cross.py", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no change*"])


def test_what_is_not_given_to_hold_the_model_against_is_asked_for(project: pytest.Pytester) -> None:
    alone = verdicts(project, "bypassed")
    assert {alone[name] for name in alone if name != "reasons"} == {"SKIPPED"}
    for measure in ("role-stability", "recovery", "localization"):
        assert f"{measure} needs --baseline=path/" in alone["reasons"]
    without_corrupted = verdicts(project, "bypassed", BESIDE, "-k", "came")
    assert says(without_corrupted["reasons"], "recovery needs --corrupted=path/")


def test_a_corrupted_checkpoint_that_lost_nothing_leaves_nothing_to_recover(project: pytest.Pytester) -> None:
    said = verdicts(project, "bypassed", BESIDE, f"--corrupted={COMMITTED / 'benign'}", "-k", "came")
    assert said["it-came-back"] == "SKIPPED"
    assert says(said["reasons"], COMMITTED / "benign", HEALTHY)


def test_a_baseline_of_another_shape_is_an_error(project: pytest.Pytester, tiny_folder: Path) -> None:
    result = project.runpytest_inprocess(f"--model={HEALTHY}", f"--baseline={tiny_folder}", "-k", "mend")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*GPT2LMHeadModel of 3 layers*shape*"])


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("expect: {at-least: 0.5}", "expect: {retains: 80%}", 12, "role-stability is"),
        ("heads: name-mover", "heads: [L3H0]", 10, "`circuit`"),
        ("heads: name-mover", "heads: any", 10, "`circuit`"),
        ("measure: recovery", "measure: recovery\n    heads: circuit", 22, "the whole model"),
        ("expect: {at-least: 0.9}", "expect: {retains: 80%}", 28, "localization is"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_line(
    old: str, new: str, line: int, said: str, tmp_path: Path
) -> None:
    write(tmp_path, {"ioi.yaml": SUITE.replace(old, new, 1)})
    with pytest.raises(SuiteError) as refused:
        load_suite(tmp_path / "ioi.yaml")
    assert any(says(one, f"ioi.yaml:{line}", said) for one in str(refused.value).splitlines())


PYTHON = """\
import pytest
from circuit_assertions import CircuitAssertionsError

TASK = {"kind": "ioi", "prompts": 64}


def test_it_came_back(audit):
    assert audit.measure("recovery", task=TASK) >= 0.75


def test_by_others(audit):
    assert audit.measure("role-stability", task=TASK, heads="name-mover") <= 0.1
    assert audit.measure("role-stability", task=TASK, heads="previous-token", circuit="ioi") >= 0.5
    assert audit.measure("role-stability", task=TASK, heads="circuit").settings["operands"] == {"role": "circuit"}


def test_nothing_lost(audit):
    audit.measure("localization", task=TASK)


def test_no_such_role(audit):
    audit.measure("role-stability", task=TASK, heads="negative-name-mover")


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        ("role-stability", {}, 'role-stability.*heads="circuit"'),
        ("role-stability", {"heads": ["L3H0"]}, "role-stability.*role"),
        ("role-stability", {"heads": "circuit", "circuit": "iio"}, "unknown circuit 'iio' .did you mean 'ioi'"),
        ("recovery", {"heads": "name-mover"}, "recovery.*the whole model"),
        ("localization", {"query": "end"}, "localization takes no `query`"),
    ],
)
def test_mistakes(audit, measure, options, message):
    with pytest.raises(CircuitAssertionsError, match=message):
        audit.measure(measure, task=TASK, **options)
"""


@pytest.mark.complete
def test_python_reads_them_and_skips_where_a_suite_would(project: pytest.Pytester) -> None:
    write(project.path, {"tests/test_healing.py": PYTHON})
    given = ["--no-diagnosis", "-rs", "tests"]
    result = project.runpytest_inprocess(f"--model={COMMITTED / 'bypassed'}", BESIDE, POISONED, *given)
    result.assert_outcomes(passed=7, skipped=2)
    reasons = "\n".join(line for line in result.outlines if line.startswith("SKIPPED"))
    assert "nothing to localize" in reasons
    assert says(reasons, "embedded.ioi.yaml", "no negative-name-mover")
    alone = project.runpytest_inprocess(f"--model={COMMITTED / 'bypassed'}", *given, "-k", "came_back")
    alone.assert_outcomes(skipped=1)
    alone.stdout.fnmatch_lines(["SKIPPED * recovery needs --baseline=path/*"])
