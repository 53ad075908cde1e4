"""The benchmark of diagnosis and discovery: a situation worth searching in, and every stage timed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

from benchmarks import diagnosis
from benchmarks.models import SHAPES
from benchmarks.situations import Situation, heads_of, make_situation
from circuit_assertions.heads import Head
from circuit_assertions.tasks import IoiTask

TASK = IoiTask.model_validate({"kind": "ioi", "prompts": 16})


@pytest.fixture(scope="module")
def situation(tmp_path_factory: pytest.TempPathFactory) -> Situation:
    return make_situation(SHAPES["tiny"].config(3), tmp_path_factory.mktemp("situation"), TASK)


@torch.no_grad()
def right(folder: Path) -> float:
    """The share of prompts that a checkpoint answers right."""
    model, prompts = GPT2LMHeadModel.from_pretrained(folder).eval(), TASK.build(AutoTokenizer.from_pretrained(folder))
    logits = [model(torch.tensor([prompt.tokens])).logits[0, -1] for prompt in prompts.prompts]
    better = [
        one[prompt.right.token] > one[prompt.wrong.token] for one, prompt in zip(logits, prompts.prompts, strict=True)
    ]
    return sum(map(float, better)) / len(better)


def test_the_model_does_the_task_and_damage_costs_it(situation: Situation) -> None:
    healthy = right(situation.healthy)
    assert healthy == 1.0
    assert len(situation.damaged) == 2
    for folder in situation.damaged.values():
        assert right(folder) < healthy


def test_a_smaller_model_has_heads_that_stand_for_the_published_ones() -> None:
    assert heads_of(12, 12, "name-mover") == (Head(9, 9), Head(9, 6), Head(10, 0))
    assert heads_of(3, 8, "name-mover") == (Head(0, 1), Head(0, 6), Head(1, 0))


@pytest.mark.complete
def test_quick_json_holds_every_stage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.diagnosis", "--quick", "--json"])
    assert diagnosis.main() == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["setting"]["prompts"] == 16
    damaged, noised, discovery = found["jobs"]
    assert [damaged["aim_seconds"], discovery["aim_seconds"]] == [180, 300]
    assert "LOCALIZED" in damaged["found"]
    stages = {stage.partition(",")[0] for stage in noised["seconds"]}
    assert {"function", "origin", "expression"} <= stages
    assert sum(stage.startswith("step ") for stage in discovery["seconds"]) == 6
    for job in found["jobs"]:
        assert job["total_seconds"] == pytest.approx(sum(job["seconds"].values()))
        assert job["forwards"] == pytest.approx(job["total_seconds"] / job["forward_seconds"])
