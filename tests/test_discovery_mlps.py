"""MLPs in a chain: those with an effect at the stages that ask for them are listed, with what the measure reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from auditing import HEALTHY
from said import says

from circuit_assertions.assertions import SuiteError, load_circuit
from circuit_assertions.assertions.chains import load_chain
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.cli import main
from circuit_assertions.components import Mlp
from circuit_assertions.request import Request
from circuit_assertions.tasks import IoiTask

pytestmark = pytest.mark.usefixtures("opened_once")

CHAIN = """\
chain: with-mlps
roles: {writer: {short: WR}}
stages:
  - to: logits
    mlps: true
    rules: [{role: writer, attends: {from: end, to: indirect-object}}]
  - to: {queries-of: writer, at: end}
"""
PROMPTS = 32


@pytest.mark.complete
def test_mlps_with_an_effect_are_listed_and_in_the_circuit_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("chain.yaml").write_text(CHAIN)
    given = [
        "discover",
        "--task",
        "ioi",
        "--model",
        str(HEALTHY),
        "--chain",
        "chain.yaml",
        "--prompts",
        str(PROMPTS),
        "-o",
        "found.yaml",
    ]
    assert main([*given, "--device", "cpu", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["found"]["mlps"]
    assert said
    assert list(load_circuit(Path("found.yaml")).mlps) == list(said)
    written = yaml.safe_load(Path("found.yaml").read_text())["found"]["mlps"]
    mlps = tuple(map(Mlp, range(5)))
    (checkpoint,) = find_checkpoints(str(HEALTHY))
    task = IoiTask.model_validate({"kind": "ioi", "prompts": PROMPTS})
    read = Audit(Opening(device="cpu")).read(Request("path-effect", task, (), mlps), checkpoint)
    for column, mlp in enumerate(mlps):
        mean = float(read.values[:, column].mean())
        if str(mlp) in said:
            assert said[str(mlp)]["logits"]["mean"] == pytest.approx(mean, rel=1e-4)
            assert written[str(mlp)]["logits"][0] == pytest.approx(mean, rel=1e-2)
            assert list(said[str(mlp)]) == ["logits"]  # the other stage asks for none


def test_a_stage_that_lists_no_mlps_says_so_where_they_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "chain.yaml"
    file.write_text(CHAIN.replace("mlps: true", "mlps: 1"))
    with pytest.raises(SuiteError) as raised:
        load_chain(file)
    assert says(str(raised.value), "chain.yaml:5:")
