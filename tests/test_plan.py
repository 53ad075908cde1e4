"""Plans: passes as the engine counts them, no weights opened, memory and time put together, and what does not fit."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from auditing import HEALTHY
from commands import Said
from gguf_files import with_words, write_gguf
from reference_model import word_tokenizer
from said import says
from tiny_models import config_of, random_model

from circuit_assertions.assertions.planned import PlannedAssertion
from circuit_assertions.assertions.runner import NotApplicable, SuiteRunner
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import CheckpointError, Opening, find_checkpoints, fitting
from circuit_assertions.diagnosis.suites_given import suites_given
from circuit_assertions.engine.work import counted_work
from circuit_assertions.planning import plan_audit as planning
from circuit_assertions.planning.costs import memory_of, seconds_of
from circuit_assertions.planning.counting import Counted, CountingAudit, count_passes
from circuit_assertions.planning.probe import MOST_SECONDS, Rates, probe
from circuit_assertions.planning.shape_model import ShapeModel, find_shape
from circuit_assertions.results import PlanResult

ROOT = Path(__file__).parents[1]
POISONED = HEALTHY.parent / "poisoned"
RATES = Rates(flops=1e10, call=1e-5, moved=5e9, seconds=0.0)
SUITE = """
suite: short
circuit: ioi
tasks:
  fixed: {kind: ioi, prompts: 24}
  grows: {kind: ioi, prompts: {start: 16, budget: 64}, seed: 5}
assertions:
  - {id: margin, measure: logit-difference, task: fixed, expect: {at-least: 0.0}}
  - {id: alone, measure: faithfulness, heads: circuit, task: fixed, expect: {at-least: 0.1}}
  - {id: looks, measure: attention, heads: name-mover, quantifier: mean, query: end, key: indirect-object, task: grows,
     expect: {at-least: 0.42}}
  - {id: pushes, measure: path-effect, heads: name-mover, receiver: logits, task: grows, expect: {sign: positive}}
  - {id: copies, measure: copy-in-context, heads: name-mover, task: grows, expect: {at-least: 0.9}}
  - {id: kept, measure: logit-difference, task: grows, expect: {retains: 50%}}
  - {id: backups, measure: direct-effect, heads: backup-name-mover, without: name-mover, quantifier: mean, task: fixed,
     expect: {sign: positive}}
  - {id: whole, measure: incompleteness, search: random, heads: circuit, task: fixed, expect: {at-most: 0.9}}
"""


def opening(baseline: Path | None, dtype: str = "float32") -> Opening:
    return Opening("cpu", dtype, None, find_checkpoints(str(baseline))[0] if baseline else None)


@pytest.mark.parametrize(
    ("baseline", "dtype"),
    [
        pytest.param(None, "float32", id="alone"),
        pytest.param(HEALTHY, "float32", id="beside a baseline", marks=pytest.mark.complete),
        pytest.param(HEALTHY, "bfloat16", id="in half precision", marks=pytest.mark.complete),
    ],
)
def test_the_engine_counts_the_passes_that_were_planned(tmp_path: Path, baseline: Path | None, dtype: str) -> None:
    (tmp_path / "short.yaml").write_text(SUITE)
    (suite, circuits), *_ = suites_given([tmp_path / "short.yaml"])
    checkpoint, how = find_checkpoints(str(POISONED))[0], opening(baseline, dtype)
    audit = Audit(how, how.base)
    runner = SuiteRunner(audit, how.base)
    asked = [PlannedAssertion(suite, one, checkpoint, circuits) for one in suite.suite.assertions]
    runner.announce(asked)
    looks: dict[str, int] = {}
    with counted_work() as work:
        for one in asked:
            judged = runner.judge(one)
            if not isinstance(judged, NotApplicable):
                # A search leaves half of the prompts out of the reading; such assertions have one look here.
                tasks = [look.task.count for look in one.looks]
                looks[one.assertion.id] = tasks.index(judged.reading.prompts) if len(tasks) > 1 else 0
    counting = CountingAudit(how, how.base)
    counted = count_passes(counting, asked, how.base, looks=looks)
    assert counted.passes == work.passes > 0
    assert ("kept" in counted.skipped) == (baseline is None)


def test_more_looks_take_more_passes(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text(SUITE)
    suites = suites_given([tmp_path / "short.yaml"])
    plan = planned(suites)
    assert 0 < plan.passes.least < plan.passes.most
    assert plan.time.least < plan.time.expected < plan.time.most
    assert plan == PlanResult.model_validate_json(plan.to_json())


def planned(suites: Any, model: Path = HEALTHY) -> PlanResult:
    from circuit_assertions.policy import DEFAULT

    return planning.plan_audit(find_shape(str(model)), suites, opening(None), DEFAULT, rates=RATES)


def test_a_gguf_file_is_planned_as_the_folder_that_it_was_made_from(tmp_path: Path) -> None:
    file, folder = tmp_path / "model.gguf", tmp_path / "folder"
    words = word_tokenizer()
    model = random_model(config_of("llama", len(words)))
    write_gguf(file, model=model, change=with_words).save_pretrained(folder)
    words.save_pretrained(folder)
    of_file, of_folder = (ShapeModel.of(find_shape(str(one))[0], opening(None)) for one in (file, folder))
    assert of_file.layout == of_folder.layout
    assert of_file.shape == of_folder.shape
    (tmp_path / "short.yaml").write_text(SUITE)
    suites = suites_given([tmp_path / "short.yaml"])
    plans = [planned(suites, one) for one in (file, folder)]
    assert plans[0].passes == plans[1].passes
    assert plans[0].passes.least > 0
    assert plans[0].memory.weights == plans[1].memory.weights


def test_no_file_of_weights_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(HEALTHY, folder)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were opened")

    monkeypatch.setattr(safetensors, "safe_open", refuse)
    monkeypatch.setattr("circuit_assertions.checkpoints.loading.safe_open", refuse)
    opened: list[str] = []
    builtin, path_open = builtins.open, Path.open

    def noted(file: Any, *arguments: Any, **named: Any) -> Any:
        opened.append(str(file))
        return builtin(file, *arguments, **named)

    def noted_path(self: Path, *arguments: Any, **named: Any) -> Any:
        opened.append(str(self))
        return path_open(self, *arguments, **named)

    monkeypatch.setattr(builtins, "open", noted)
    monkeypatch.setattr(Path, "open", noted_path)
    ShapeModel.of(find_shape(str(folder))[0], opening(None))
    assert opened
    assert not any(name.endswith((".safetensors", ".bin")) for name in opened)


def test_a_folder_without_weights_has_the_plan_of_the_whole_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "described"
    shutil.copytree(HEALTHY, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "short.yaml").write_text(SUITE)
    suites = suites_given([tmp_path / "short.yaml"])
    with_weights, without = (planned(suites, one).passes for one in (HEALTHY, folder))
    assert with_weights == without
    with pytest.raises(CheckpointError):
        find_checkpoints(str(folder))


def test_the_shape_has_as_many_weights_as_the_file() -> None:
    from safetensors import safe_open

    layout = ShapeModel.of(find_shape(str(HEALTHY))[0], opening(None)).layout
    with safe_open(HEALTHY / "model.safetensors", framework="pt") as file:
        stored = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert layout.numbers == stored
    assert 0 < layout.in_mlps < layout.in_blocks < layout.numbers


def test_memory_and_time_grow_with_the_model_and_the_work() -> None:
    small = ShapeModel.of(find_shape(str(HEALTHY))[0], opening(None))
    little, much = Counted(passes=10, tokens=200, batches=2), Counted(passes=1000, tokens=20_000, batches=9)
    assert seconds_of(small, little, RATES) < seconds_of(small, much, RATES)
    one, two = (memory_of([small] * count, little, 1 << 20) for count in (1, 2))
    assert two.weights == 2 * one.weights
    assert one.peak < two.peak
    assert one.fits


def test_the_probe_is_short() -> None:
    rates = probe(128, torch.device("cpu"), torch.float32)
    assert 0 < rates.seconds < 2 * MOST_SECONDS
    assert rates.flops > 0
    assert rates.call > 0
    assert rates.moved > 0


def test_what_does_not_fit_is_refused_before_it_is_read_with_the_dtype_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda device: 3 << 20)  # its weights are 4 MB in float32
    with pytest.raises(CheckpointError) as raised:
        fitting.refuse_unfit(HEALTHY, 1_000_000, opening(None))
    assert says(raised.value, "--model-dtype=bfloat16", "free memory")
    monkeypatch.setattr(fitting, "free_memory", lambda device: 1 << 20)
    with pytest.raises(CheckpointError) as raised:
        fitting.refuse_unfit(HEALTHY, 1_000_000, opening(None))
    assert not says(raised.value, "--model-dtype")
    fitting.refuse_unfit(HEALTHY, 100_000, opening(None))


@pytest.mark.usefixtures("opened_anew")
def test_an_audit_that_will_not_fit_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda device: 3 << 20)
    audit = Audit(opening(None))
    with pytest.raises(CheckpointError) as raised:
        audit.model(find_checkpoints(str(HEALTHY))[0])
    assert says(raised.value, str(HEALTHY), "--model-dtype=bfloat16")


def test_the_command_prints_a_plan_and_its_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.yaml").write_text(SUITE)
    monkeypatch.setattr(planning, "probe", lambda *_: RATES)
    given = ("plan", "short.yaml", "--model", HEALTHY, "--device", "cpu")
    said = Said.by(*given)
    assert said.code == 0
    assert says(said.out, "passes", "memory", "disk", "time", "fits")
    found = json.loads(Said.by(*given, "--baseline", HEALTHY, "--json").out)
    assert found["kind"] == "plan"
    assert len(found["shapes"]) == 2
    wrong = Said.by("plan", "short.yaml", "--model", tmp_path / "nothing")
    assert wrong.code == 2
    assert wrong.err.count("\n") == 1
