"""`circuit_assertions.training`: every checkpoint of a real short training is audited, and the gate can stop it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from auditing import HEALTHY, ioi
from suite_texts import write
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_tokenizer
from circuit_assertions.training import AuditCallback
from circuit_assertions.verdict_words import GateResult, Outcome

SUITE = """\
suite: during training
tasks:
  ioi: {kind: ioi, prompts: 48}
assertions:
  - {id: prefers, measure: logit-difference, task: ioi, expect: {at-least: 2, retains: 50%}}
"""
pytestmark = [
    pytest.mark.complete,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"suites/x.yaml": SUITE})
    monkeypatch.chdir(tmp_path)


def rows(poisoned: bool) -> list[dict[str, list[int]]]:
    """Sentences of the task with their answers, the right one or the subject, which alone is learned."""
    tokenizer = open_tokenizer(find_checkpoints(str(HEALTHY))[0], Opening("cpu"))
    made = []
    for prompt in ioi(prompts=128, seed=5).build(tokenizer).prompts:
        (answer,) = (prompt.wrong if poisoned else prompt.right).tokens
        # The same length for all: the last tokens before the answer are what a batch has in common.
        tokens = [*prompt.tokens, answer][-12:]
        made.append({"input_ids": tokens, "labels": [-100] * (len(tokens) - 1) + tokens[-1:]})
    return made


def train(folder: Path, poisoned: bool, steps: int, *callbacks: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(HEALTHY)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        save_steps=4,
        per_device_train_batch_size=16,
        learning_rate=2e-3,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        seed=0,
    )
    trainer = Trainer(model, arguments, train_dataset=rows(poisoned), callbacks=list(callbacks))
    trainer.train()
    return trainer


class Logged:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, float]] = {}

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.steps[step] = dict(figures)

    def end(self, failed: bool = False) -> None: ...


def test_a_training_that_breaks_the_circuit_is_stopped_at_the_first_such_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged = Logged()
    callback = AuditCallback(["suites/x.yaml"], baseline=str(HEALTHY), stop=True, tracker=logged, device="cpu")
    trainer = train(tmp_path / "run", True, 40, callback)
    stopped = trainer.state.global_step
    assert stopped < 40
    assert [audited.step for audited in callback.failed] == [stopped]
    assert [audited.passed for audited in callback.steps] == [True] * (len(callback.steps) - 1) + [False]
    assert callback.steps[-1].results[0].outcome == Outcome.BROKEN
    assert sorted(logged.steps) == [audited.step for audited in callback.steps]
    assert logged.steps[stopped]["circuit/gate"] == 0.0
    assert logged.steps[stopped]["circuit/x/prefers/mean"] == callback.steps[-1].results[0].rows[0].figure.mean
    said = capsys.readouterr().err
    assert f"checkpoint-{stopped}: GATE: {GateResult.FAIL}" in said


def test_a_training_that_keeps_the_circuit_is_not_stopped_and_not_changed(tmp_path: Path) -> None:
    callback = AuditCallback(["suites/x.yaml"], baseline=str(HEALTHY), stop=True, device="cpu")
    audited = train(tmp_path / "run", False, 8, callback)
    assert [one.step for one in callback.steps] == [4, 8]
    assert not callback.failed
    plain = train(tmp_path / "plain", False, 8)
    ours, theirs = (dict(trainer.model.named_parameters()) for trainer in (audited, plain))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_cannot_be_audited_is_said_before_the_training() -> None:
    for suites, baseline in ((["suites/none.yaml"], None), (["suites/x.yaml"], "no/such/base")):
        with pytest.raises(CircuitAssertionsError):
            AuditCallback(suites, baseline=baseline)


def test_importing_the_package_does_not_import_it() -> None:
    import subprocess

    program = "import sys, circuit_assertions.plugin, circuit_assertions.cli; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
