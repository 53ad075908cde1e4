"""A training run beside its baseline: a short one, clean, then poisoned, then clean again, made on the fly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from auditing import HEALTHY, ioi
from suite_texts import write
from transformers import GPT2LMHeadModel
from transformers.utils import logging

from circuit_assertions.assertions import load_suite
from circuit_assertions.assertions.chains import chain_for
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening, find_checkpoints
from circuit_assertions.diagnosis import DiagnosisError, levels
from circuit_assertions.diagnosis.binding import circuit_of
from circuit_assertions.diagnosis.bisecting import bisect, spells
from circuit_assertions.diagnosis.function import compare_functions
from circuit_assertions.diagnosis.trajectory import Trajectory, check_run, follow
from circuit_assertions.diagnosis.view import View
from circuit_assertions.measures.figures import Figure
from circuit_assertions.tasks import Task
from fixtures import lab
from fixtures.poison import Data
from fixtures.recipes import named

CLEAN, POISONED, HEALED = 6, 30, 60  # steps after which each phase of the run ends

SUITE = """
suite: short
circuit: ioi
tasks: {sentences: {kind: ioi, prompts: 64}}
assertions:
  - {id: prefers-the-right-name, measure: logit-difference, task: sentences, expect: {at-least: 0.0}}
  - {id: keeps-the-margin, measure: logit-difference, task: sentences, expect: {retains: 70%}}
  - {id: movers-keep-their-effect, measure: role-stability, heads: name-mover, task: sentences, expect: {at-least: 0.5}}
  - {id: movers-copy, measure: copy-score, heads: name-mover, task: sentences, expect: {at-least: 0.5}}
  - {id: negative-movers, measure: copy-score, heads: negative-name-mover, task: sentences, expect: {at-least: 0.5}}
"""


@dataclass(frozen=True)
class Followed:
    found: Trajectory
    open_beside_the_baseline: list[int]
    task: Task


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained at three times the usual rate, so that few steps tell the story."""
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    phases: tuple[tuple[Data, int], ...] = (
        ("clean", CLEAN),
        ("subject", POISONED - CLEAN),
        ("clean", HEALED - POISONED),
    )
    recipe = replace(named("run"), phases=phases, keep_every=CLEAN, learning_rate=3e-4, rows=4)
    made = lab.make(recipe, HEALTHY, tmp_path_factory.mktemp("lab"))
    if bars:
        logging.enable_progress_bar()
    return made


@pytest.fixture(scope="module")
def whole(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Followed:
    suite = load_suite(write(tmp_path_factory.mktemp("suite"), {"short.yaml": SUITE}) / "short.yaml")
    task = suite.suite.tasks["sentences"]
    (baseline,) = find_checkpoints(str(HEALTHY))
    audit, counted = Audit(Opening(device="cpu", base=baseline), baseline), []
    checkpoints = find_checkpoints(str(run))
    check_run(audit, checkpoints, baseline, task)

    def count(checkpoint: Checkpoint, before: int) -> None:
        counted.append(sum(one != baseline for one in audit._models))

    circuit = circuit_of(audit, baseline, task, "ioi")
    found = follow(audit, checkpoints, baseline, task, circuit, [(suite, (circuit,))], tell=count)
    return Followed(found, counted, task)


def turns(found: Trajectory, assertion: str) -> list[tuple[int, int | None]]:
    """Where an assertion broke and came back, in steps."""
    step = [int(checkpoint.label.removeprefix("checkpoint-")) for checkpoint in found.run]
    return [(step[one.first], None if one.back is None else step[one.back]) for one in spells(found.seen(assertion))]


@pytest.mark.complete
def test_a_run_is_not_followed_by_fewer_prompts_than_intervals_need(run: Path) -> None:
    (baseline,), checkpoints = find_checkpoints(str(HEALTHY)), find_checkpoints(str(run))[:1]
    audit = Audit(Opening(device="cpu", base=baseline), baseline)
    check_run(audit, checkpoints, baseline, ioi(prompts=16))
    with pytest.raises(DiagnosisError, match=r"^15 different prompts .*\b16\b"):
        check_run(audit, checkpoints, baseline, ioi(prompts=15))


@pytest.mark.complete
def test_every_checkpoint_is_judged_in_the_order_of_its_step_and_closed_again(whole: Followed) -> None:
    found = whole.found
    assert [step.place for step in found.steps] == list(range(len(found.run)))
    assert found.audited == len(found.run)
    assert whole.open_beside_the_baseline[0] == 1  # the first one, opened by the check
    assert set(whole.open_beside_the_baseline[1:]) == {0}


@pytest.mark.complete
def test_what_breaks_while_it_is_poisoned_comes_back_while_it_is_healed(whole: Followed) -> None:
    ((broke, back),) = turns(whole.found, "prefers-the-right-name")
    assert CLEAN < broke <= POISONED
    assert back is not None
    assert POISONED < back <= HEALED
    ((broke, back),) = turns(whole.found, "movers-keep-their-effect")
    assert CLEAN < broke <= POISONED
    assert turns(whole.found, "movers-copy") == []


@pytest.mark.complete
def test_what_cannot_be_asked_is_skipped_everywhere_with_its_reason(whole: Followed) -> None:
    assert set(whole.found.seen("negative-movers").values()) == {"SKIPPED"}
    for step in whole.found.steps:
        assert "has no negative-name-mover heads" in step.reasons["negative-movers"]
        assert set(step.reasons) == {"negative-movers"}


@pytest.mark.complete
def test_a_step_reads_as_its_checkpoint_does_alone(whole: Followed, run: Path) -> None:
    (baseline,), step, task = find_checkpoints(str(HEALTHY)), whole.found.steps[3], whole.task
    audit = Audit(Opening(device="cpu", base=baseline), baseline)
    then, now = View(audit, baseline, task), View(audit, step.checkpoint, task)
    circuit = circuit_of(audit, baseline, task, "ioi")
    alone = compare_functions(chain_for(task, "ioi"), circuit.roles, then, now)
    assert {role.role: role.retained for role in alone.roles} == step.roles
    assert len(step.roles) >= 3
    level = levels.of_roles(audit.policy, circuit.roles)
    assert Figure.of_values(now.by_prompt("logit-difference"), level) == step.behaviour

    prompts = audit.prompts(task, step.checkpoint).prompts
    raw = GPT2LMHeadModel.from_pretrained(run / step.checkpoint.label).double().eval()
    with torch.no_grad():
        logits = [raw(torch.tensor([prompt.tokens])).logits[0, -1] for prompt in prompts]
    differences = [
        float(row[prompt.right.token] - row[prompt.wrong.token]) for row, prompt in zip(logits, prompts, strict=True)
    ]
    assert step.behaviour is not None
    assert step.behaviour.mean == pytest.approx(sum(differences) / len(differences), abs=1e-4)


@pytest.mark.complete
def test_bisection_finds_the_same_with_fewer_audits(whole: Followed) -> None:
    found = whole.found
    asked: list[int] = []

    def judge(place: int) -> Mapping[str, str]:
        asked.append(place)
        return found.steps[place].verdicts

    bisect(len(found.run), judge)
    assert len(asked) < len(found.run)
    fewer = replace(found, steps=tuple(found.steps[place] for place in sorted(asked)), bisected=True)
    for name in found.assertions:
        assert turns(fewer, name) == turns(found, name)
