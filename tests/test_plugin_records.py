"""`--circuit-save`, `--circuit-compare` and `--baseline-record` in pytest, alone and with workers."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from auditing import HEALTHY
from diagnosis_cases import leave_out_origin
from said import says
from suite_texts import TINY_SUITE, write
from test_files import fail_in

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.engine import Model
from circuit_assertions.files import write_whole
from circuit_assertions.plugin.project_folders import RECORDS
from circuit_assertions.records import store
from circuit_assertions.records.record import Record
from circuit_assertions.results import AuditResult
from circuit_assertions.results.circuit_shown import CircuitShown
from circuit_assertions.verdict_words import ComparisonVerdict, Outcome

pytestmark = pytest.mark.usefixtures("opened_once")

POISONED = HEALTHY.parent / "poisoned-heads"

SUITE = """\
suite: four lines about indirect objects
circuit: ioi

tasks:
  ioi: {kind: ioi, prompts: 64}
  grows: {kind: ioi, prompts: {start: 32, budget: 128}}

assertions:
  - id: answers
    measure: logit-difference
    task: ioi
    expect: {at-least: 0.0}

  - id: keeps-the-margin
    measure: logit-difference
    task: grows
    expect: {retains: 80%}

  - id: name-movers-push
    measure: direct-effect
    heads: name-mover
    task: ioi
    expect: {sign: positive, retains: 50%}

  - id: the-best-head-looks
    measure: attention
    heads: any
    query: end
    key: indirect-object
    task: ioi
    expect: {at-least: 0.3}
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project in a folder of its own, so that there is an outside."""
    folder = pytester.mkdir("project")
    write(folder, {"suites/tiny.yaml": TINY_SUITE, "pytest.ini": "[pytest]\nmarkers = gate: x\n"})
    os.chdir(folder)
    return pytester


def audit(project: pytest.Pytester, model: Path, *more: str) -> pytest.RunResult:
    return project.runpytest_inprocess(f"--model={model}", *more)


def the_record(folder: Path = RECORDS) -> Record:
    (entry,) = store.history(folder)
    return entry.record


def spread_over_workers(*args: str) -> str:
    command = [str(Path(sys.executable).parent / "pytest"), *args, "-n", "2", "-p", "no:hypothesispytest"]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False).stdout


# -- saving ---------------------------------------------------------------------------------------------------------


def test_a_run_leaves_nothing_behind_unless_it_is_asked_to(project: pytest.Pytester, tiny_folder: Path) -> None:
    audit(project, tiny_folder)
    assert not RECORDS.exists()


def test_a_record_says_what_the_run_said(project: pytest.Pytester, tiny_folder: Path) -> None:
    result = audit(project, tiny_folder, "--circuit-save=base", "--circuit-json=audit.json")
    record = the_record()
    assert (record.label, record.redacted) == ("base", False)
    (told,) = (line for line in result.outlines if line.startswith("record "))
    assert told.endswith(f"{RECORDS / record.name}.json")
    plain = json.loads(Path("audit.json").read_text())
    by_name = {one["id"]: one for one in plain["assertions"]}
    for one, read, seconds in zip(record.audit.assertions, record.reads, record.seconds_of, strict=True):
        said = by_name[one.id]
        assert (one.outcome, one.expected) == (said["outcome"], said["expected"])
        assert seconds is not None
        if said["reading"] is None:
            assert read is None
            continue
        assert read is not None
        columns = record.readings[read].columns()
        for name, values in said["reading"]["values"].items():
            assert columns["" if name == "model" else name] == pytest.approx(values, rel=1e-6)
    assert record.audit.gate.line in result.outlines
    assert record.seconds >= sum(filter(None, record.seconds_of)) > 0
    # what is only relative to a baseline was not judged, and is read for the runs that this one may be the baseline of
    assert by_name["against-the-baseline"]["outcome"] == Outcome.SKIPPED
    assert {one.measure for one in record.readings} == {"loss", "previous-token-score"}


@pytest.mark.parametrize("how", ["option", pytest.param("configuration", marks=pytest.mark.complete)])
def test_the_folder_and_the_redaction_can_be_chosen(project: pytest.Pytester, tiny_folder: Path, how: str) -> None:
    given = ["--circuit-records=kept", "--circuit-redact"]
    if how == "configuration":
        write(Path(), {"pytest.ini": "[pytest]\nmarkers = gate: x\ncircuit_records = kept\ncircuit_redact = true\n"})
        given = []
    audit(project, tiny_folder, "--circuit-save", *given)
    record = the_record(Path("kept"))
    assert record.redacted
    text = record.to_json()
    assert str(tiny_folder.parent) not in text
    assert record.audit.models[0].model == tiny_folder.name
    assert record.prompts.texts is None


def test_paths_in_a_record_are_relative(project: pytest.Pytester, tiny_folder: Path) -> None:
    audit(project, tiny_folder, "--circuit-save")
    text = the_record().to_json()
    assert not re.search(r'["= ]/[^" /]+/', text), re.findall(r'.{20}["= ]/[^" /]+/.{20}', text)
    assert the_record().audit.models[0].model == os.path.relpath(tiny_folder)


@pytest.mark.slow
@pytest.mark.complete
def test_workers_make_the_same_record(project: pytest.Pytester, tiny_folder: Path) -> None:
    write(
        Path(), {"suites/other.yaml": TINY_SUITE.replace("suite: tiny", "suite: other").replace("seed: 0", "seed: 1")}
    )
    audit(project, tiny_folder, "--circuit-save=alone")
    printed = spread_over_workers(f"--model={tiny_folder}", "--circuit-save=spread")
    alone, spread = (store.find(name, RECORDS).record for name in ("alone", "spread"))
    assert says(printed, f"{spread.name}.json") or spread.name in printed
    assert spread.readings == alone.readings
    assert spread.prompts == alone.prompts
    assert spread.reads == alone.reads
    assert all(seconds is not None for seconds in spread.seconds_of)
    assert [one.outcome for one in spread.audit.assertions] == [one.outcome for one in alone.audit.assertions]


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (("--circuit-save", "suites/tiny.yaml"), ("--circuit-save=suites/tiny.yaml",)),
        (("--circuit-save=a/b",), ("--circuit-save=a/b",)),
        (("--circuit-save-prompts=many",), ("--circuit-save-prompts=many",)),
        (("--circuit-compare=nothing",), ("--circuit-compare",)),
        (("--baseline-record=nothing",), ("--baseline-record",)),
        (("--baseline-record=no.json",), ("--baseline-record", "no.json")),
    ],
)
def test_a_mistake_is_told_before_any_work(
    project: pytest.Pytester, tiny_folder: Path, given: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    result = audit(project, tiny_folder, *given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.errlines if line.startswith("ERROR")]
    assert len(errors) == 1
    assert says(errors[0], *parts)


@pytest.mark.parametrize(
    "where", ["fsync", *(pytest.param(where, marks=pytest.mark.complete) for where in ("write", "replace"))]
)
def test_a_full_disk_is_one_sentence_and_the_verdicts_stay(
    project: pytest.Pytester, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    said = os.strerror(errno.ENOSPC)
    real = write_whole

    def written(file: Path, content: str) -> None:
        with monkeypatch.context() as patched:
            fail_in(patched, where, OSError(errno.ENOSPC, said))
            real(file, content)

    monkeypatch.setattr(store, "write_whole", written)
    result = audit(project, tiny_folder, "suites/tiny.yaml::holds", "--circuit-save")
    (told,) = (line for line in result.outlines if said in line)
    assert ".json" in told
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"  {Outcome.HELD} *holds*", "GATE: FAIL (1 file *, 1 held)"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert list(RECORDS.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_sentence_and_the_verdicts_stay(
    project: pytest.Pytester, tiny_folder: Path
) -> None:
    Path(".circuit-assertions").write_text("a file in the way of the folder")
    result = audit(project, tiny_folder, "suites/tiny.yaml::holds", "--circuit-save")
    assert len([line for line in result.outlines if "folder of records" in line]) == 1
    result.stdout.fnmatch_lines([f"  {Outcome.HELD} *holds*", "GATE: FAIL (1 file *, 1 held)"])


# -- comparing ------------------------------------------------------------------------------------------------------


def test_a_run_is_compared_with_a_record_at_its_end(
    project: pytest.Pytester, reference_folder: Path, flipped_folder: Path, reference_project: Path
) -> None:
    shutil.copytree(reference_project, Path(), dirs_exist_ok=True)
    asked = ("suites/ioi.yaml", "--no-diagnosis")
    audit(project, reference_folder, *asked, "--circuit-save=base")
    result = audit(project, flipped_folder, *asked, "--circuit-compare=base")
    section = result.stdout.str().partition("= circuit comparison =")[2]
    assert says(section, f"{Outcome.HELD} -> {Outcome.BROKEN}", "L4H1", "sign reversed", ComparisonVerdict.REGRESSED)
    assert len(store.history(RECORDS)) == 1  # comparing alone saves nothing
    again = audit(project, reference_folder, *asked, "--circuit-compare=latest")
    assert says(again.stdout.str().partition("= circuit comparison =")[2], ComparisonVerdict.SAME)
    assert again.ret == pytest.ExitCode.OK


# -- a record as the baseline ---------------------------------------------------------------------------------------


@pytest.fixture
def beside(project: pytest.Pytester) -> pytest.Pytester:
    Path("suites/tiny.yaml").unlink()
    write(Path(), {"suites/ioi.yaml": SUITE})
    return project


@pytest.fixture(scope="module")
def kept_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("baseline")


@pytest.fixture
def of_healthy(beside: pytest.Pytester, kept_folder: Path) -> Path:
    """A record of the healthy checkpoint, as a project keeps one; made once."""
    if not store.history(kept_folder):
        audit(beside, HEALTHY, "--circuit-save=base", f"--circuit-records={kept_folder}")
    (entry,) = store.history(kept_folder)
    return entry.file


def verdicts(output: str) -> list[str]:
    """The lines of the assertions, and of the diagnosis but for what needs weights."""
    audited = output.partition("= circuit audit =")[2].partition("short test summary")[0]
    kept = re.findall(rf"^  (?:{'|'.join(Outcome)}) .*", audited, re.MULTILINE)
    return kept + re.findall(r"^(?:verdict|behaviour|roles) .*", audited, re.MULTILINE)


def test_a_record_gives_the_verdicts_that_the_weights_give_and_they_are_not_opened(
    beside: pytest.Pytester, of_healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_origin(monkeypatch)
    by_weights = audit(beside, POISONED, f"--baseline={HEALTHY}").stdout.str()
    opened: list[str] = []
    real = Audit._opened

    def noting(one: Audit, checkpoint: Checkpoint) -> Model:
        opened.append(str(checkpoint))
        return real(one, checkpoint)

    monkeypatch.setattr(Audit, "_opened", noting)
    by_record = audit(beside, POISONED, f"--baseline-record={of_healthy}").stdout.str()
    assert opened == [str(POISONED)]
    assert verdicts(by_record) == verdicts(by_weights) != []
    assert len(verdicts(by_record)) > 6
    origin = next(line for line in by_record.splitlines() if line.startswith("origin "))
    assert says(origin, "not searched")
    assert says(by_record, "--baseline")
    assert "expressed  " not in by_record


@pytest.mark.complete
def test_a_report_has_the_head_maps_of_a_recorded_baseline_or_says_why_not(
    beside: pytest.Pytester, of_healthy: Path
) -> None:
    def shown(*baseline: str) -> CircuitShown:
        asked = ("--no-diagnosis", "-k", "push", "--circuit-report=out.json", *baseline)
        audit(beside, POISONED, *asked)
        (found,) = AuditResult.model_validate_json(Path("out.json").read_text()).circuits
        return found

    by_weights, by_record = shown(f"--baseline={HEALTHY}"), shown(f"--baseline-record={of_healthy}")
    assert by_record.effects == by_weights.effects
    assert all(one.change is not None for one in by_record.effects.values())
    assert all(look.before is None for prompt in by_record.looked_at for look in prompt.heads)
    (told,) = by_record.left_out
    assert str(POISONED) in told
    record = store.read(of_healthy)
    few = [one for one in record.readings if one.measure != "path-effect"]
    assert len(few) < len(record.readings)
    store.save(Path(), record.model_copy(update={"name": "few", "reads": (), "readings": tuple(few)}))
    without = shown("--baseline-record=few.json")
    assert without.baseline is None
    assert {one.before for one in without.effects.values()} == {None}
    assert any(says(why, "path-effect", "few.json") for why in without.left_out)


def test_an_assertion_that_needs_more_prompts_is_unresolved_with_the_command_that_extends_the_record(
    beside: pytest.Pytester, of_healthy: Path
) -> None:
    text = SUITE.replace("{start: 32, budget: 128}", "{start: 96, budget: 128}")
    write(Path(), {"suites/ioi.yaml": text})
    result = audit(beside, HEALTHY, f"--baseline-record={of_healthy}", "--no-diagnosis", "-k", "margin", "-rs")
    said = result.stdout.str()
    assert says(said, f"1 {Outcome.UNRESOLVED.said}", "--circuit-save-prompts=96", "--circuit-save=base", "64", "96")
    failing = audit(
        beside,
        HEALTHY,
        f"--baseline-record={of_healthy}",
        "--no-diagnosis",
        "-k",
        "margin",
        "--circuit-unresolved=fail",
    )
    assert failing.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.complete
def test_the_command_that_is_named_extends_the_record(beside: pytest.Pytester) -> None:
    more = ("--no-diagnosis", "-k", "margin")
    audit(beside, HEALTHY, *more, "--circuit-save=base", "--circuit-save-prompts=96")
    text = SUITE.replace("{start: 32, budget: 128}", "{start: 96, budget: 128}")
    write(Path(), {"suites/ioi.yaml": text})
    result = audit(beside, HEALTHY, "--baseline-record=base", *more)
    assert says(result.stdout.str(), f"1 {Outcome.HELD.said}")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("prompts: 64}", "prompts: 64, seed: 7}"), ("another task", "seed")),
        (
            ("measure: logit-difference\n    task: ioi", "measure: probability-difference\n    task: ioi"),
            ("no probability-difference",),
        ),
        pytest.param(
            ("key: indirect-object", "key: subject-1"), ("no attention", "subject-1"), marks=pytest.mark.complete
        ),
    ],
    ids=["task", "measure", "operands"],
)
def test_what_the_record_does_not_have_is_refused_with_the_reason(
    beside: pytest.Pytester, of_healthy: Path, change: tuple[str, str], parts: tuple[str, ...]
) -> None:
    text = SUITE.replace(*change).replace("at-least: 0.0", "retains: 50%").replace("at-least: 0.3", "retains: 1%")
    assert text != SUITE
    write(Path(), {"suites/ioi.yaml": text})
    asked = "the-best-head-looks" if "key" in change[0] else "answers"
    result = audit(beside, POISONED, f"--baseline-record={of_healthy}", "--no-diagnosis", f"suites/ioi.yaml::{asked}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert says(result.stdout.str(), *parts)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ((f"--baseline={HEALTHY}",), ("--baseline", "--baseline-record")),
        ((f"--corrupted={POISONED}",), ("--corrupted",)),
        (("--discover",), ("--discover",)),
    ],
)
def test_what_needs_weights_is_refused_beside_a_record(
    beside: pytest.Pytester, of_healthy: Path, given: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    result = audit(beside, POISONED, f"--baseline-record={of_healthy}", *given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert says(result.stderr.str(), *parts)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda plain: plain["audit"]["versions"].update({"circuit-assertions": "99.1.0"}), ("99.1.0",)),
        (lambda plain: plain["audit"].update(models=plain["audit"]["models"] * 2), ("2 checkpoints",)),
        (lambda plain: plain["prompts"].update(hashes=["0" * 16] * len(plain["prompts"]["hashes"])), ("other tokens",)),
        (lambda plain: [one["identity"].update(dtype="bfloat16") for one in plain["readings"]], ("bfloat16 on cpu",)),
        (lambda plain: [one.update(token_hash="x") for one in plain["readings"]], ()),
    ],
    ids=["version", "two checkpoints", "tokens", "dtype", "only the hash of all tokens"],
)
def test_a_record_that_does_not_fit_is_refused_with_the_reason(
    beside: pytest.Pytester, of_healthy: Path, change: object, parts: tuple[str, ...]
) -> None:
    plain = json.loads(of_healthy.read_text())
    change(plain)  # type: ignore[operator]
    if parts == ("other tokens",):
        for one in plain["readings"]:
            one["token_hash"] = "x"
    Path("changed.json").write_text(json.dumps(plain))
    asked = ("--no-diagnosis", "suites/ioi.yaml::keeps-the-margin")
    result = audit(beside, HEALTHY, "--baseline-record=changed.json", *asked)
    said = result.stdout.str() + result.stderr.str()
    assert (result.ret == pytest.ExitCode.OK) == (not parts)  # prompts are known one by one
    assert not parts or says(said, *parts)


def test_it_may_stand_in_the_configuration(beside: pytest.Pytester, of_healthy: Path) -> None:
    shutil.copy(of_healthy, "base.json")
    write(Path(), {"pytest.ini": "[pytest]\ncircuit_baseline_record = base.json\n"})
    result = audit(beside, HEALTHY, "--no-diagnosis", "-k", "margin")
    assert says(result.stdout.str(), f"1 {Outcome.HELD.said}")


@pytest.mark.complete
def test_a_model_of_another_shape_is_refused(beside: pytest.Pytester, of_healthy: Path, reference_folder: Path) -> None:
    result = audit(beside, reference_folder, f"--baseline-record={of_healthy}", "-k", "answers")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
