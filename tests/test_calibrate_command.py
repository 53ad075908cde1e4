"""`circuit-assertions calibrate` and `--circuit-calibration`: what is compared, written, used and refused."""

from __future__ import annotations

import json
from pathlib import Path

import commands
import numpy as np
import pytest
import torch
import yaml
from auditing import Audited, ioi
from said import says
from suite_texts import circuit_text, write

from circuit_assertions.audit import Audit
from circuit_assertions.calibration.file import read_tolerances
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.cli import main
from circuit_assertions.measures.tolerances import Setting, setting_of
from circuit_assertions.report.calibrated import calibration_lines
from circuit_assertions.results import CalibrationResult
from circuit_assertions.results.calibration import KINDS, SettingResult

SUITE = "suites/ioi.yaml"
PROMPTS = 8
SHAPE = {"architecture": "GPT2LMHeadModel", "layers": 3, "heads": 4, "d_model": 32}
CIRCUIT = circuit_text(SHAPE, {"name-mover": [(1, 0), (2, 3)]})
SUITE_TEXT = f"""\
suite: tiny
circuit: ioi
tasks: {{ioi: {{kind: ioi, prompts: {PROMPTS}}}}}
assertions:
  - {{id: answers, measure: answer-rate, task: ioi, expect: {{at-least: 1%}}}}
  - {{id: margin, measure: logit-difference, task: ioi, expect: {{at-least: -1000}}}}
  - {{id: pushes, measure: direct-effect, heads: name-mover, task: ioi, expect: {{sign: positive}}}}
  - {{id: any, measure: direct-effect, heads: any, task: ioi, expect: {{sign: negative}}}}
  - {{id: needs-a-corrupted-one, measure: recovery, task: ioi, expect: {{at-least: 0.5}}}}
"""


class Said(commands.Said):
    """The same, with the result of `--json`."""

    @property
    def result(self) -> CalibrationResult:
        return CalibrationResult.model_validate_json(self.out)


def calibrate(*arguments: object) -> Said:
    """Run the command in this process."""
    return Said.by("calibrate", *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A suite and a circuit for the tiny model, which is `model`."""
    made = tmp_path_factory.mktemp("calibrated")
    write(made, {SUITE: SUITE_TEXT, "suites/circuits/tiny.ioi.yaml": CIRCUIT})
    (made / "model").symlink_to(tiny_folder)
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> Said:
    """One run, which wrote `calibration.yaml`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        threads = torch.get_num_threads()
        said = calibrate(
            SUITE, "--model", "model", "--device", "cpu", "--prompts", PROMPTS, "-o", "calibration.yaml", "--json"
        )
        assert torch.get_num_threads() == threads
    assert said.code == 0, said.err
    return said


def by_name(result: CalibrationResult) -> dict[tuple[str, str], SettingResult]:
    return {(one.kind, one.name): one for one in result.settings}


# -- what it finds ----------------------------------------------------------------------------------------------------


def test_every_kind_of_setting_is_there_and_what_the_machine_lacks_has_its_reason(found: Said) -> None:
    settings = by_name(found.result)
    assert {one.kind for one in found.result.settings} == set(KINDS)
    wanted = [("batch", "1"), ("batch", "2"), ("batch", "all"), ("order", "reversed"), ("order", "shuffled")]
    wanted += [("threads", "1"), ("threads", "2"), ("dtype", "float64"), ("dtype", "bfloat16"), ("dtype", "float16")]
    assert set(wanted) <= set(settings)
    for one in found.result.settings:
        assert (one.used is None) == bool(one.reason)
    if not torch.cuda.is_available():
        assert says(settings["device", "cuda"].reason, "no CUDA device")


def test_differences_are_those_of_two_audits(found: Said, folder: Path) -> None:
    """The largest difference between float32 and bfloat16, read by audits of their own."""
    (movers,) = (one for one in by_name(found.result)["dtype", "bfloat16"].measures if one.measure == "direct-effect")
    usual, half = (
        Audited(folder / "model", dtype).read("direct-effect", ioi(prompts=PROMPTS)).values
        for dtype in ("float32", "bfloat16")
    )
    assert movers.largest == pytest.approx(np.abs(half - usual).max(), rel=1e-3)
    assert movers.of_mean == pytest.approx(np.abs((half - usual).mean(axis=0)).max(), rel=1e-3)
    assert movers.readings == 2
    assert movers.tolerance >= movers.fitted > 0


def test_rounding_alone_is_far_below_half_precision_and_changes_no_verdict(found: Said) -> None:
    settings = by_name(found.result)
    half = {one.measure: one for one in settings["dtype", "bfloat16"].measures}
    for kind, name in (("batch", "1"), ("batch", "all"), ("order", "shuffled"), ("dtype", "float64")):
        one = settings[kind, name]
        assert one.changed == ()
        assert one.judged == 4
        assert one.not_compared == ()
        for each in one.measures:
            assert each.of_mean <= 1e-2 * half[each.measure].of_mean + 1e-9
            assert each.holds
    assert all(each.largest == 0 for each in settings["batch", "all"].measures)  # the reference once more


def test_what_has_no_reading_is_left_out_with_the_reason(found: Said) -> None:
    (missing,) = found.result.left_out
    assert missing.name == "needs-a-corrupted-one"
    assert says(missing.reason, "same setting")


def test_the_result_is_a_record_and_the_file_has_it(found: Said, folder: Path) -> None:
    result = found.result
    assert (result.kind, result.schema_version, result.prompts) == ("calibration", 1, PROMPTS)
    assert result.margin == result.policy.values["calibration_margin"]
    assert (folder / "calibration.yaml").read_text().startswith("#")
    tolerances = read_tolerances(folder / "calibration.yaml", "calibration.yaml")
    assert tolerances.reference == Setting("float32", "cpu")
    assert set(tolerances.known) >= {Setting(dtype, "cpu") for dtype in ("float64", "bfloat16", "float16")}
    assert set(tolerances.further) == {"answer-rate", "logit-difference", "direct-effect"}


def test_the_text_has_every_setting_and_measure(found: Said) -> None:
    text = "\n".join(line for line, _ in calibration_lines(found.result, "calibration.yaml"))
    for one in found.result.settings:
        assert f"{one.kind} {one.name}" in text
    assert text.count("direct-effect") >= sum(one.used is not None for one in found.result.settings)
    assert says(text, "float32 on cpu", "--circuit-calibration=calibration.yaml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["suites/none.yaml"], "none.yaml"),
        ([SUITE, "-o", "suites"], "folder"),
        ([SUITE, "--policy", "defaut"], "default"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    said = calibrate(*arguments, "--model", "model")
    assert (said.code, said.out) == (2, "")
    assert says(said.err, words)


def test_so_few_prompts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["calibrate", "--model", "model", "--prompts", "7"])
    assert says(capsys.readouterr().err, "8")


# -- where settings meet, and where they cannot -----------------------------------------------------------------------


def test_the_checkpoints_of_one_run_have_one_setting(folder: Path) -> None:
    checkpoint = find_checkpoints(str(folder / "model"))[0]
    other = find_checkpoints(str((folder / "model").resolve()))[0]
    audit = Audit(Opening(device="cpu", dtype="bfloat16"), checkpoint)
    identities = [audit.model(one).identity() for one in (checkpoint, other)]
    assert {(one["dtype"], one["device"]) for one in identities} == {("bfloat16", "cpu")}


def circuit_with_a_bound(folder: Path) -> str:
    """The circuit file, with a bound that its base cleared in float32."""
    circuit = yaml.safe_load((folder / "suites/circuits/tiny.ioi.yaml").read_text())
    model = Audited(folder / "model")
    task = ioi(prompts=PROMPTS)
    settings = dict(model.audit.prompts(task, model.checkpoint).settings)
    fingerprint = model.audit.model(model.checkpoint).source.fingerprint
    circuit["base"] = {"id": "model", "fingerprint": fingerprint}
    circuit["found"] = {
        "task": json.loads(json.dumps(settings)),
        "settings": {"dtype": "float32"},
        "thresholds": [{"measure": "logit-difference", "at-most": 500.0}],
    }
    return yaml.safe_dump(circuit)


PROPOSED = """\
suite: proposed
circuit: ioi
tasks: {ioi: {kind: ioi, prompts: 16}}
assertions:
  - {id: taken, measure: logit-difference, task: ioi, expect: {at-most: {proposed: 100%, otherwise: 1000.0}}}
"""


@pytest.mark.usefixtures("opened_once")
def test_a_bound_measured_in_another_dtype_is_refused_without_a_calibration_and_used_with_it(
    pytester: pytest.Pytester, found: Said, folder: Path
) -> None:
    files = {"suites/proposed.yaml": PROPOSED, "suites/circuits/tiny.ioi.yaml": circuit_with_a_bound(folder)}
    write(pytester.path, files)
    run = (f"--model={folder / 'model'}", "--circuit-device=cpu", "suites/proposed.yaml", "--circuit-json=a.json")

    said = ""

    def judged(*more: str) -> dict[str, object]:
        nonlocal said
        said = pytester.runpytest_inprocess(*run, *more).stdout.str()
        (one,) = json.loads((pytester.path / "a.json").read_text())["assertions"]
        return dict(one)

    assert says(str(judged()["expected"]), "tiny.ioi.yaml")
    refused = judged("--circuit-dtype=bfloat16")
    assert says(str(refused["expected"]), "1000")  # what stands where no file proposes a bound
    assert says(" ".join(refused["across"]), "bfloat16", "float32", "calibrate")  # type: ignore[arg-type]
    assert says(said.partition("across settings")[2], "bfloat16", "float32", "--circuit-calibration")
    file = folder / "calibration.yaml"
    used = judged("--circuit-dtype=bfloat16", f"--circuit-calibration={file}")
    assert used["outcome"] == "HELD"
    assert says(" ".join(used["across"]), "bfloat16", "float32", "calibration.yaml")  # type: ignore[arg-type]
    assert "--circuit-calibration" in str(used["command"])

    (pytester.path / "none.yaml").write_text("a: b\n")
    wrong = pytester.runpytest_inprocess(*run, "--circuit-calibration=none.yaml")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    pytester.makeini("[pytest]\ncircuit_calibration = none.yaml")
    assert pytester.runpytest_inprocess(*run).ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.usefixtures("opened_once")
def test_a_snapshot_of_another_dtype_is_refused_with_both_settings(pytester: pytest.Pytester, folder: Path) -> None:
    test = 'def test_it(audit, snapshot):\n    assert audit.measure("loss", task=TASK) == snapshot\n'
    test = f"TASK = {{'kind': 'ioi', 'prompts': 8}}\n\n\n{test}"
    write(pytester.path, {"tests/test_kept.py": test})
    run = (f"--model={folder / 'model'}", "--circuit-device=cpu", "tests")
    pytester.runpytest_inprocess(*run, "--snapshot-update").assert_outcomes(passed=1)
    kept = (pytester.path / "tests" / "__snapshots__" / "test_kept.ambr").read_text()
    assert "float32" not in kept
    other = pytester.runpytest_inprocess(*run, "--circuit-dtype=bfloat16")
    other.assert_outcomes(failed=1)
    told = next(line for line in other.outlines if "snapshot" in line and "float32" in line)
    assert says(told, "float32", "bfloat16", "--model-dtype=float32")


def test_readings_record_their_setting(folder: Path) -> None:
    taken = Audited(folder / "model", "bfloat16").read("logit-difference", ioi(prompts=4))
    assert setting_of(taken) == Setting("bfloat16", "cpu")
    assert repr(taken).splitlines()[0].endswith("in bfloat16 on cpu")
