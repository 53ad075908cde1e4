"""What docs/smollm2.md and the shipped circuit file say of SmolLM2-135M, measured again where the model is at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from auditing import Audited, ioi

from circuit_assertions.assertions import load_circuit
from circuit_assertions.assertions.circuits import everyone_in
from circuit_assertions.measures.intervals import Level
from fixtures.real.lab import RESULTS
from fixtures.real.package import GGUF, REAL
from fixtures.real.rows import CIRCUIT

FILE = REAL / GGUF
TASK = ioi(prompts=64, seed=7)  # which neither the circuit nor the laboratory has seen

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not FILE.is_file(), reason=f"{GGUF} is not there: `make real` fetches it"),
]


@pytest.fixture(scope="module")
def smollm2() -> Audited:
    return Audited(FILE)


@pytest.fixture(scope="module")
def circuit() -> Any:
    return load_circuit(CIRCUIT)


def results() -> dict[str, Any]:
    return dict(json.loads(RESULTS.read_text(encoding="utf-8"))) if RESULTS.is_file() else {}


def test_the_circuit_file_is_of_this_very_file(smollm2: Audited, circuit: Any) -> None:
    assert circuit.base.fingerprint == smollm2.audit.model(smollm2.checkpoint).source.fingerprint


def test_the_model_does_the_task(smollm2: Audited) -> None:
    assert smollm2.read("answer-rate", TASK).mean > 0.9


@pytest.mark.parametrize(("role", "sign"), [("name-mover", 1), ("negative-name-mover", -1), ("subject-suppressor", 1)])
def test_roles_that_write_do_so_on_other_prompts(smollm2: Audited, circuit: Any, role: str, sign: int) -> None:
    read = smollm2.read("path-effect", TASK, *circuit.roles[role])
    together = sign * read.values.mean(axis=1)  # single weak heads are not clear on so few prompts
    interval = read.interval(together, Level(0.99))
    assert interval.low > 0, interval


def test_the_circuit_is_faithful_on_other_prompts(smollm2: Audited, circuit: Any) -> None:
    said = yaml.safe_load(CIRCUIT.read_text(encoding="utf-8"))["found"]["faithfulness"]["circuit"]
    read = smollm2.read("faithfulness", TASK, set=everyone_in(circuit.roles))
    low, high = read.interval(read.values, Level(0.99))
    assert low <= said[2]
    assert high >= said[1]


@pytest.mark.parametrize("name", ["poisoned", "recovered"])
def test_a_copy_that_was_made_here_behaves_as_the_page_says(smollm2: Audited, name: str) -> None:
    folder = REAL / name
    if not (folder / "model.safetensors").is_file() or name not in results():
        pytest.skip(f"`make real` has not made {name} here")
    before, after = (one.read("logit-difference", TASK).mean for one in (smollm2, Audited(Path(folder))))
    kept = results()[name]["behaviour"]["retained"]
    reach = kept["high"] - kept["low"]  # on other prompts, by weights that other sums may have moved a little
    assert kept["low"] - reach <= after / before <= kept["high"] + reach
