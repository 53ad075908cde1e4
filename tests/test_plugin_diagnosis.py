"""`pytest --model M --baseline B`: the diagnosis after the audit, who asks for it, and when there is none."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest
from auditing import HEALTHY
from diagnosis_cases import kept, leave_out_origin, on_the_way_to
from said import says
from suite_texts import write

from circuit_assertions.diagnosis import lenses

pytestmark = pytest.mark.usefixtures("opened_once")

COMMITTED = HEALTHY.parent
POISONED = COMMITTED / "poisoned-heads"
BYPASSED = COMMITTED / "bypassed"
TITLE = "= circuit diagnosis ="

SUITE = """\
suite: two lines about indirect objects
circuit: ioi

tasks:
  ioi: {kind: ioi, prompts: 48}

assertions:
  - id: answers
    measure: logit-difference
    task: ioi
    expect: {at-least: 0.0}

  - id: name-movers-copy
    measure: copy-score
    heads: name-mover
    task: ioi
    expect: {at-least: 0.5}
"""
# Has nothing that a diagnosis could patch.
PAIRS = list(permutations(("Leo", "Anna", "Tom", "Kate"), 2))
LOSS = "suite: loss\ntasks:\n  said:\n    kind: prompts\n    pairs:\n"
LOSS += "".join(
    f'      - {{clean: "When {one} and {other} went to the church, {one} gave a coin to", right: {other}}}\n'
    for one, other in permutations(("Leo", "Anna", "Tom", "Kate", "Sam"), 2)
)
LOSS += "assertions:\n  - {id: reads, measure: loss, task: said, expect: {at-least: 0.0001}}\n"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    write(pytester.path, {"suites/ioi.yaml": SUITE})
    return pytester


def beside_healthy(project: pytest.Pytester, model: Path, *more: str) -> str:
    return project.runpytest_inprocess(f"--model={model}", f"--baseline={HEALTHY}", *more).stdout.str()


def diagnosis_of(output: str) -> str:
    """What stands below the title, up to the next."""
    return re.split(r"\n=+ ", output.partition(TITLE)[2].partition("=\n")[2])[0]


def test_it_follows_the_audit_and_names_the_weights_at_fault(project: pytest.Pytester) -> None:
    output = beside_healthy(project, POISONED)
    assert output.index("= circuit audit =") < output.index(TITLE) < output.index("short test summary")
    said = diagnosis_of(output)
    assert f"model {POISONED} baseline {HEALTHY} verdict CORRUPTED: " in " ".join(said.split())  # long paths wrap
    assert re.search(r"origin     LOCALIZED: .* 3 of 32 components restore 100% .*:\s+L3H0\s+L3H1\s+L3H3\n", said)


@pytest.mark.complete
def test_the_corrupted_checkpoint_may_stand_in_the_configuration(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_origin(monkeypatch)
    project.makeini(f"[pytest]\ncircuit_baseline = {HEALTHY}\ncircuit_corrupted = {COMMITTED / 'poisoned'}\n")
    said = diagnosis_of(project.runpytest_inprocess(f"--model={BYPASSED}").stdout.str())
    assert f"corrupted {COMMITTED / 'poisoned'} " in " ".join(said.split())
    assert "\nrecovery   BYPASSED: " in said


@pytest.mark.complete
def test_with_workers_it_is_the_same_and_stands_there_once(project: pytest.Pytester) -> None:
    alone = beside_healthy(project, BYPASSED)
    command = [str(Path(sys.executable).parent / "pytest"), f"--model={BYPASSED}", f"--baseline={HEALTHY}", "-n", "1"]
    quiet = ["-p", "no:hypothesispytest", "-p", "no:pytester"]
    spread = subprocess.run([*command, *quiet], capture_output=True, text=True, timeout=120, check=False).stdout
    assert spread.count(TITLE) == 1
    assert diagnosis_of(spread) == diagnosis_of(alone) != ""


@pytest.mark.complete
def test_the_broken_circuit_comes_first(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_origin(monkeypatch)
    induction = SUITE.replace("circuit: ioi", "circuit: induction").replace("{kind: ioi,", "{kind: repeated-tokens,")
    write(project.path, {"suites/induction.yaml": induction.replace("heads: name-mover", "heads: induction")})
    output = beside_healthy(project, POISONED, "suites/induction.yaml", "suites/ioi.yaml")
    assert output.index("\nsuites/induction.yaml\n") < output.index("\nsuites/ioi.yaml\n")
    assert re.findall(r"^verdict    (\w+)", diagnosis_of(output), re.MULTILINE) == ["CORRUPTED", "INTACT"]


@pytest.mark.parametrize("how", ["option", "configuration"])
@pytest.mark.complete
def test_it_can_be_left_out(how: str, project: pytest.Pytester) -> None:
    if how == "configuration":
        project.makeini("[pytest]\ncircuit_diagnosis = false\n")
    output = beside_healthy(project, BYPASSED, *(["--no-diagnosis"] if how == "option" else []))
    assert "= circuit audit =" in output
    assert TITLE not in output


@pytest.fixture(scope="module")
def degraded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The healthy checkpoint, poisoned a little: less, and not broken."""
    return kept(on_the_way_to("poisoned-heads", 0.15), tmp_path_factory.mktemp("degraded") / "model")


@pytest.mark.parametrize(
    "how", ["", "fail", *(pytest.param(how, marks=pytest.mark.complete) for how in ("report", "ini"))]
)
@pytest.mark.complete
def test_degraded_fails_a_run_only_where_that_is_asked_for(
    how: str, project: pytest.Pytester, degraded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_origin(monkeypatch)
    if how == "ini":
        project.makeini("[pytest]\ncircuit_degraded = fail\n")
    more = [f"--circuit-degraded={how}"] if how in ("report", "fail") else []
    result = project.runpytest_inprocess(f"--model={degraded}", f"--baseline={HEALTHY}", "-k", "answers", *more)
    result.assert_outcomes(passed=1)
    said = diagnosis_of(result.stdout.str())
    assert "\nverdict    DEGRADED: " in said
    fails = how in ("fail", "ini")
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if fails else pytest.ExitCode.OK)
    assert ("--circuit-degraded=fail" in said) == fails
    (gate,) = (line for line in result.outlines if line.startswith("GATE: "))
    assert says(gate, "FAIL", "DEGRADED") == fails
    assert says(gate, "1 held")


@pytest.mark.parametrize(
    "model",
    [COMMITTED / "benign", *(pytest.param(one, marks=pytest.mark.complete) for one in (HEALTHY, COMMITTED / "narrow"))],
)
@pytest.mark.complete
def test_what_is_intact_passes_where_degraded_fails(project: pytest.Pytester, model: Path) -> None:
    result = project.runpytest_inprocess(f"--model={model}", f"--baseline={HEALTHY}", "--circuit-degraded=fail")
    assert result.ret == pytest.ExitCode.OK


def test_without_a_baseline_there_is_none(project: pytest.Pytester) -> None:
    output = project.runpytest_inprocess(f"--model={BYPASSED}").stdout.str()
    assert "= circuit audit =" in output
    assert TITLE not in output


def test_the_baseline_beside_itself_is_intact(project: pytest.Pytester) -> None:
    said = diagnosis_of(beside_healthy(project, HEALTHY))
    assert "\nverdict    INTACT: 100% [100%, 100%] " in said


@pytest.mark.complete
def test_the_baseline_among_other_models_has_none(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_origin(monkeypatch)
    said = diagnosis_of(beside_healthy(project, HEALTHY, f"--model={BYPASSED}"))
    assert re.findall(r"^model +(\S+)", said, re.MULTILINE) == [str(BYPASSED)]


def test_a_suite_without_anything_to_patch_has_none(project: pytest.Pytester) -> None:
    write(project.path, {"suites/ioi.yaml": LOSS})
    output = beside_healthy(project, BYPASSED)
    assert "1 passed" in output
    assert TITLE not in output


def test_a_model_that_cannot_be_opened_is_an_error_of_its_items_alone(project: pytest.Pytester, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(BYPASSED, damaged)
    (damaged / "model.safetensors").write_bytes(b"no weights")
    result = project.runpytest_inprocess(f"--model={damaged}", f"--baseline={HEALTHY}")
    result.assert_outcomes(errors=2)
    assert TITLE not in result.stdout.str()


def test_what_cannot_be_diagnosed_says_why_and_the_verdicts_stand(project: pytest.Pytester, tiny_folder: Path) -> None:
    # A random model does no task, so there is nothing that another could have lost.
    other = project.mkdir("other") / "tiny"
    shutil.copytree(tiny_folder, other)
    write(project.path, {"suites/ioi.yaml": SUITE.replace("kind: ioi", "kind: repeated-tokens, length: 8")})
    result = project.runpytest_inprocess(f"--model={other}", f"--baseline={tiny_folder}", "-k", "answers")
    said = diagnosis_of(result.stdout.str())
    assert says(said, other, "ioi", "undecided", f"baseline {tiny_folder}", "logit difference")
    assert "\nverdict " not in said
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


def test_too_few_prompts_are_why_there_is_no_diagnosis_and_the_verdicts_stand(project: pytest.Pytester) -> None:
    pairs = ", ".join(
        f'{{clean: "When {one} and {other} went to the church, {one} gave a coin to", right: {other}, wrong: {one}, '
        f'counterfactual: "When {one} and {other} went to the church, Tony gave a coin to"}}'
        for one, other in PAIRS
    )
    write(
        project.path,
        {"suites/ioi.yaml": SUITE.replace("{kind: ioi, prompts: 48}", f"{{kind: prompts, pairs: [{pairs}]}}")},
    )
    result = project.runpytest_inprocess(f"--model={POISONED}", f"--baseline={HEALTHY}")
    said = diagnosis_of(result.stdout.str())
    assert said.startswith(f"{POISONED} ")
    assert says(said, "ioi", f"{len(PAIRS)} different prompts", 16)
    assert "\n" not in said.strip()
    assert "\n  UNRESOLVED answers " in result.stdout.str()


@pytest.mark.parametrize("what", ["cut off", pytest.param("of another shape", marks=pytest.mark.complete)])
@pytest.mark.complete
def test_a_corrupted_checkpoint_that_is_of_no_use_costs_what_is_told_of_recovery_alone(
    what: str, project: pytest.Pytester, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_origin(monkeypatch)
    worst = tiny_folder
    if what == "cut off":
        worst = project.path / "cut"
        shutil.copytree(POISONED, worst)
        (worst / "model.safetensors").write_bytes((POISONED / "model.safetensors").read_bytes()[:1000])
    said = diagnosis_of(beside_healthy(project, BYPASSED, f"--corrupted={worst}"))
    assert "\nverdict    CORRUPTED: " in said
    assert "\nrecovery   not measured:" in said
    assert worst.name in said.partition("\nrecovery ")[2].partition("\nbehaviour ")[0]


def test_an_interrupted_run_is_not_diagnosed(project: pytest.Pytester) -> None:
    write(project.path, {"suites/test_stop.py": "def test_stop(audit):\n    raise KeyboardInterrupt\n"})
    result = project.runpytest_inprocess(
        f"--model={BYPASSED}", f"--baseline={HEALTHY}", "suites", no_reraise_ctrlc=True
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert TITLE not in result.stdout.str()


def test_who_interrupts_the_diagnosis_keeps_the_verdicts(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lenses, "diagnose", stop)
    output = beside_healthy(project, BYPASSED)
    assert "  HELD       answers " in output
    assert says(diagnosis_of(output), "interrupted", "`circuit-assertions diagnose`")


@pytest.mark.complete
def test_of_a_training_run_it_is_the_last_checkpoints(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_origin(monkeypatch)
    run = project.mkdir("run")
    for step, name in ((10, "poisoned"), (20, "bypassed")):
        (run / f"checkpoint-{step}").symlink_to(COMMITTED / name)
    said = diagnosis_of(beside_healthy(project, Path("run"), "-k", "answers"))
    assert re.findall(r"^model +(\S+)", said, re.MULTILINE) == ["run/checkpoint-20"]
    follow = f"circuit-assertions trajectory --model run --baseline {HEALTHY}"
    (of_run,) = (line for line in said.splitlines() if line.startswith("run  "))
    assert says(of_run, "last of 2 checkpoints", follow)


def test_corrupted_without_a_baseline_is_a_mistake_in_the_command(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess(f"--model={BYPASSED}", f"--corrupted={POISONED}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--corrupted *--baseline*"])


def test_a_training_run_cannot_be_the_corrupted_one(project: pytest.Pytester) -> None:
    run = project.mkdir("run")
    for step in (1, 2):
        (run / f"checkpoint-{step}").symlink_to(POISONED)
    result = project.runpytest_inprocess(f"--model={BYPASSED}", f"--baseline={HEALTHY}", "--corrupted=run")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--corrupted run *training run*"])
