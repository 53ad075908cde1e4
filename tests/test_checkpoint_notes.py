"""What is known of how a checkpoint was read reaches a person: in audits, diagnoses and repaired checkpoints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from checkpoint_files import WEIGHTS, change_json, change_tensors, copy_of, opened
from said import says
from torch import Tensor

from circuit_assertions.checkpoints import find_checkpoints
from circuit_assertions.checkpoints.grafting import graft
from circuit_assertions.cli import main
from circuit_assertions.heads import Head

ROOT = Path(__file__).parents[1]
HEALTHY = ROOT / "fixtures" / "checkpoints" / "healthy"


def _wrap(tensors: dict[str, Tensor]) -> None:
    renamed = {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}
    tensors.clear()
    tensors.update(renamed)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The embedded model as torch.compile and FSDP would write it, with another epsilon."""
    folder = copy_of(HEALTHY, tmp_path / "model")
    change_tensors(folder / WEIGHTS, _wrap)
    change_json(folder / "config.json", architectures=["FSDPGPT2LMHeadModel"], layer_norm_epsilon=1e-6)
    return folder


@pytest.mark.usefixtures("opened_once")
def test_the_audit_shows_notes_and_changed_settings_and_binds_the_roles(model: Path, pytester: pytest.Pytester) -> None:
    asked = [f"--model={model}", f"--baseline={HEALTHY}", "--no-diagnosis", "-k", "name-movers-read"]
    result = pytester.runpytest_inprocess(*asked, str(ROOT / "suites" / "ioi.yaml"))
    result.assert_outcomes(passed=1, deselected=result.parseoutcomes()["deselected"])
    said = result.stdout.str()
    assert "GPT2LMHeadModel, 5 layers" in said
    assert says(said, "`_orig_mod.`", "torch.compile")
    assert "config.json differs in layer_norm_epsilon (1e-05 -> 1e-06)" in said
    assert not says(said, "circuit file")


@pytest.mark.complete
def test_a_diagnosis_names_changed_settings_before_it_says_that_no_weight_differs(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    command = ["diagnose", "--model", str(model), "--baseline", str(HEALTHY), "--prompts", "32"]
    main(command)
    said = capsys.readouterr().out
    assert said.index("config.json differs in layer_norm_epsilon") < said.index("all weights equal")
    assert re.search(r"^note .*`_orig_mod\.`", said, re.MULTILINE)
    main([*command, "--json"])
    data = json.loads(capsys.readouterr().out)
    assert data["settings_changed"] == ["config.json differs in layer_norm_epsilon (1e-05 -> 1e-06)"]
    assert len(data["notes"]) == 1


def test_a_repaired_checkpoint_is_written_under_plain_names(model: Path, tmp_path: Path) -> None:
    poisoned = find_checkpoints(str(ROOT / "fixtures" / "checkpoints" / "poisoned-heads"))[0]
    wrapped, plain = copy_of(model, tmp_path / "wrapped"), copy_of(HEALTHY, tmp_path / "plain")
    written = []
    for name, folder in (("one", wrapped), ("other", plain)):
        graft(find_checkpoints(str(folder))[0], poisoned, [Head(3, 0)], tmp_path / name, record=str)
        written.append(opened(tmp_path / name))
    assert written[0].fingerprint.partition("-")[0] == written[1].fingerprint.partition("-")[0]
    assert written[0].notes == ()
