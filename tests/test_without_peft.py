"""peft is an extra: without it an adapter is refused with the command that installs it, and all else works."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_files import change_json, copy_of, refused
from peft import LoraConfig, get_peft_model
from said import says
from suite_texts import write
from tiny_models import save_tiny
from transformers import AutoModelForCausalLM

from circuit_assertions.checkpoints import find_checkpoints
from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.grafting import graft
from circuit_assertions.components import parse_part

PACKAGE = Path(__file__).parents[1] / "circuit_assertions"
INSTALL = "pip install 'circuit-assertions[peft]'"
SUITE = """
suite: what this model does
tasks:
  sentences: {kind: ioi, prompts: 16, templates: ["Then, {first} and {second} had fun. {subject} said to"]}
assertions:
  - {id: answers, measure: logit-difference, task: sentences, expect: {at-least: -1000}}
"""
# As if it were not installed: transformers and accelerate, which look for it, do not find it either.
HIDDEN = """
import json, sys
from importlib.machinery import PathFinder

found = PathFinder.find_spec.__func__

@classmethod
def find_spec(cls, name, path=None, target=None):
    return None if name.partition(".")[0] == "peft" else found(cls, name, path, target)

PathFinder.find_spec = find_spec
import pytest
from circuit_assertions.cli import main

base, *runs = json.loads(sys.argv[1])
print("codes", json.dumps([pytest.main([f"--model={base}", "suites"]), *map(main, runs)]))
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("base") / "gpt2")


@pytest.fixture(scope="module")
def adapter(base: Path) -> Path:
    """A LoRA adapter on it. Not to be changed."""
    config = LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(base.parent / "lora")
    change_json(base.parent / "lora" / "adapter_config.json", base_model_name_or_path=str(base))
    return base.parent / "lora"


@pytest.mark.complete
def test_without_peft_only_an_adapter_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    write(tmp_path, {"suites/mine.yaml": SUITE})
    on_cpu = ["--task", "suites/mine.yaml", "--device", "cpu"]
    runs = [
        ["show-task", "suites/mine.yaml", "--model", str(adapter)],  # asks for the tokenizer only
        ["edges", "--model", str(adapter), *on_cpu],
    ]
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, json.dumps([str(base), *runs])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    (codes,) = [line for line in done.stdout.splitlines() if line.startswith("codes ")]
    assert json.loads(codes.removeprefix("codes ")) == [0, 0, 2], done.stdout + done.stderr
    assert says(done.stderr, adapter, INSTALL)
    assert "Traceback" not in done.stderr


def test_the_error_names_the_folder_and_the_command(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    assert says(refused(adapter), adapter, "peft", INSTALL)


def test_it_comes_before_a_base_that_is_missing(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_of(adapter, tmp_path / "lora")
    change_json(folder / "adapter_config.json", base_model_name_or_path="some/where/else")
    monkeypatch.setitem(sys.modules, "peft", None)
    assert says(refused(folder), folder, INSTALL)


def test_a_graft_from_an_adapter_is_refused_alike(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    model, source = (find_checkpoints(str(folder))[-1] for folder in (base, adapter))
    with pytest.raises(CheckpointError) as caught:
        graft(model, source, [parse_part("MLP0")], tmp_path / "fixed", record=str)
    assert says(caught.value, adapter, INSTALL)


def test_a_peft_that_cannot_be_imported_is_told_with_its_reason(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "peft.py").write_text("raise ImportError('needs-another-torch')")
    monkeypatch.delitem(sys.modules, "peft")
    monkeypatch.syspath_prepend(tmp_path)
    assert says(refused(adapter), adapter, "needs-another-torch", INSTALL)


def test_peft_is_imported_only_where_an_adapter_is_read() -> None:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            for part in ast.walk(node) if not isinstance(node, ast.FunctionDef | ast.ClassDef) else ():
                names = [alias.name for alias in part.names] if isinstance(part, ast.Import) else []
                names += [part.module or ""] if isinstance(part, ast.ImportFrom) else []
                assert not [name for name in names if name.partition(".")[0] == "peft"], file
