"""What a checkpoint lacks (its base, its tokenizer, the files that Git LFS keeps) is said with a way out that works."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkpoint_files import ON_CPU, WEIGHTS, change_json, copy_of, opened
from peft import LoraConfig, get_peft_model
from said import says
from tiny_models import save_tiny
from transformers import AutoModelForCausalLM

from circuit_assertions.checkpoints import Checkpoint, CheckpointError, Opening, Permissions
from circuit_assertions.cli import main

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4134000\n"
SUITE = """
suite: what this model does
tasks:
  sentences: {kind: ioi, prompts: 16, templates: ["Then, {first} and {second} had fun. {subject} said to"]}
assertions:
  - {id: answers, measure: logit-difference, task: sentences, expect: {at-least: -1000}}
"""
VERBS = {
    "show-task": ["mine.yaml"],
    "edges": ["--task", "mine.yaml", "--device", "cpu"],
    "discover": ["--task", "mine.yaml", "--device", "cpu"],
}
DONE = {"show-task": 0, "edges": 0, "discover": 1}  # random weights do no task, so there is no circuit to be found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("whole") / "gpt2")


@pytest.fixture
def adapter(whole: Path, tmp_path: Path) -> Path:
    """A LoRA adapter whose base is not where it says."""
    config = LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
    get_peft_model(AutoModelForCausalLM.from_pretrained(whole), config).save_pretrained(tmp_path / "lora")
    change_json(tmp_path / "lora" / "adapter_config.json", base_model_name_or_path="some/where/else")
    return tmp_path / "lora"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(SUITE)


def run(verb: str, *more: str | Path) -> int:
    return main([verb, *VERBS[verb], *map(str, more)])


@pytest.mark.sample(1)
@pytest.mark.parametrize("verb", VERBS)
def test_the_baseline_lends_an_adapter_its_base_as_the_error_says(
    verb: str, whole: Path, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(verb, "--model", adapter) == 2
    said = capsys.readouterr().err
    assert says(said, adapter, "adapter", "--baseline=path/")
    assert run(verb, "--model", adapter, f"--baseline={whole}") == DONE[verb]
    assert capsys.readouterr().err == ""


@pytest.mark.sample(1)
@pytest.mark.parametrize("verb", VERBS)
def test_the_baseline_lends_its_tokenizer_as_the_error_says(
    verb: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = copy_of(whole, tmp_path / "bare", without="tokenizer.json")
    assert run(verb, "--model", bare) == 2
    assert says(capsys.readouterr().err, bare, "tokenizer", "--tokenizer=path/", "--baseline=path/")
    for option in ("tokenizer", "baseline"):
        assert run(verb, "--model", bare, f"--{option}={whole}") == DONE[verb]


def test_who_gave_a_baseline_already_is_not_told_to_give_one(adapter: Path) -> None:
    lender = Checkpoint("lora", folder=adapter, adapter=True)
    with pytest.raises(CheckpointError) as caught:
        opened(adapter, Opening(device="cpu", base=lender))
    assert says(caught.value, adapter, "base", "adapter_config.json")
    assert not says(caught.value, "--baseline")


def test_an_adapter_of_another_model_is_told_what_decides_on_its_base(adapter: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", "llama")
    change_json(adapter / "adapter_config.json", base_model_name_or_path=str(other))
    with pytest.raises(CheckpointError) as caught:
        opened(adapter, Opening(device="cpu", base=Checkpoint("other", folder=other)))
    assert says(caught.value, adapter, other, "adapter_config.json")


# -- Git LFS ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_known_as_such(name: str, whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path / "cloned")
    (folder / name).write_text(POINTER)
    with pytest.raises(CheckpointError) as caught:
        opened(folder)
    assert says(caught.value, folder / name, "Git LFS", "git lfs pull")


@pytest.mark.parametrize("opening", [ON_CPU, Opening(device="cpu", permissions=Permissions(pickle=True))])
def test_a_pointer_is_no_pickle_to_be_allowed(opening: Opening, whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path / "cloned", without=WEIGHTS)
    (folder / "pytorch_model.bin").write_text(POINTER)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*Git LFS"):
        opened(folder, opening)


def test_a_shard_or_an_adapter_may_be_a_pointer_too(adapter: Path, whole: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.safetensors").write_text(POINTER)
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors.*Git LFS"):
        opened(adapter, Opening(device="cpu", base=Checkpoint("whole", folder=whole)))
    sharded = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(whole).save_pretrained(sharded, max_shard_size="20KB")
    shutil.copyfile(whole / "tokenizer.json", sharded / "tokenizer.json")
    last = max(sharded.glob("model-*.safetensors"))
    last.write_text(POINTER)
    with pytest.raises(CheckpointError, match=f"{last.name}.*Git LFS"):
        opened(sharded)
