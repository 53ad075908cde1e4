"""What messages suggest of folders, adapters and verbs works; every option that is named anywhere is an option."""

from __future__ import annotations

import ast
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import ON_CPU, WEIGHTS, change_json, copy_of, opened, refused
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from printed_words import printed_in
from said import says
from tiny_models import save_tiny
from transformers import AutoModelForCausalLM

import circuit_assertions
from circuit_assertions.checkpoints import CheckpointError, find_checkpoints, patterns
from circuit_assertions.cli import main

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
MEANT = re.compile(r"did you mean (?:one of the adapters in it: )?(.+?)\?")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("healthy") / "gpt2")


@pytest.fixture
def model(healthy: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return copy_of(healthy, tmp_path / "model")


def adapter(base: Path, folder: Path, **changes: Any) -> Path:
    """A LoRA adapter."""
    settings = {"target_modules": ["c_attn"], "init_lora_weights": False, "fan_in_fan_out": True} | changes
    config = LoraConfig(task_type="CAUSAL_LM", **settings)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    change_json(folder / "adapter_config.json", base_model_name_or_path=str(base))
    return folder


def merged(base: Path, folder: Path, target: Path) -> Path:
    """The adapter's merged model, as a message asks for it, with the base's tokenizer."""
    whole = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder)).merge_and_unload()
    whole.save_pretrained(target)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / name, target / name)
    return target


def message(path: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        find_checkpoints(str(path))
    return str(caught.value)


# -- folders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_git_lfs_fetches_opens(model: Path, name: str) -> None:
    whole = (model / name).read_bytes()
    (model / name).write_text(POINTER)
    text = refused(model)
    assert re.findall(r"`([^`]+)`", text) == ["git lfs pull"]
    file = re.match(r"(?:.*: )?(\S+) is a Git LFS pointer", text)
    assert file is not None
    Path(file[1]).write_bytes(whole)  # what the command does, for the file that is named
    opened(model)


@pytest.mark.parametrize("wrong", ["modell", "modle", "Model", "mode"])
def test_a_folder_that_is_meant_opens(model: Path, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    for spelled in (f"{model.parent}/{wrong}", f"./{wrong}/"):
        (meant,) = MEANT.findall(message(spelled))
        opened(meant)
    (meant,) = MEANT.findall(refused(wrong))  # it may be a hub id, and cannot be fetched
    opened(meant)


def test_a_step_of_a_mistyped_run_opens(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "runs" / "checkpoint-10")
    (meant,) = MEANT.findall(message(tmp_path / "run" / "checkpoint-10"))
    opened(meant)


def test_the_folder_of_a_file_opens(model: Path) -> None:
    assert says(message(model / WEIGHTS), str(model / WEIGHTS), "the folder", "config.json")
    opened((model / WEIGHTS).parent)


def test_what_a_folder_should_hold_is_enough(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for text in (message(tmp_path / "empty"), message(tmp_path / "empty" / "..")):
        names = re.findall(r"config\.json|\*\.safetensors", text.rpartition("give ")[2])
        assert set(names) == {"config.json", "*.safetensors"}
    (tmp_path / "full").mkdir()
    for name in names:
        for file in model.glob(name):
            shutil.copyfile(file, tmp_path / "full" / file.name)
    opened(tmp_path / "full", replace(ON_CPU, tokenizer=str(model)))


# -- adapters -----------------------------------------------------------------------------------------------------


def test_adapters_that_are_meant_open_and_no_others_are_named(healthy: Path, tmp_path: Path) -> None:
    for name in ("default", "nested/policy"):
        adapter(healthy, tmp_path / "lora" / name)
    (tmp_path / "lora" / "begun").mkdir()
    shutil.copy(tmp_path / "lora" / "default" / "adapter_config.json", tmp_path / "lora" / "begun")
    (meant,) = MEANT.findall(message(tmp_path / "lora"))
    assert len(meant.split(", ")) == 2
    for one in meant.split(", "):
        opened(one)


@pytest.mark.parametrize("named", [None, "nowhere/at/all"])
def test_an_adapter_without_a_base_opens_with_the_option_that_is_suggested(
    healthy: Path, tmp_path: Path, named: str | None
) -> None:
    folder = adapter(healthy, tmp_path / "lora")
    change_json(folder / "adapter_config.json", base_model_name_or_path=named)
    option, value = re.findall(r"(--[a-z-]+)=(path/)", refused(folder))[-1]
    assert (option, value) == ("--baseline", "path/")
    opened(folder, replace(ON_CPU, base=find_checkpoints(str(healthy))[0]))


def test_an_adapter_beside_an_adapter_opens_in_both_suggested_ways(healthy: Path, tmp_path: Path) -> None:
    folder, other = (adapter(healthy, tmp_path / name) for name in ("lora", "other"))
    change_json(folder / "adapter_config.json", base_model_name_or_path=None)
    beside = replace(ON_CPU, base=find_checkpoints(str(other))[0])
    text = refused(folder, beside, most=900)
    assert says(text, "base in its adapter_config.json", "the merged model")
    opened(merged(healthy, folder, tmp_path / "merged"), beside)
    change_json(folder / "adapter_config.json", base_model_name_or_path=str(healthy))
    opened(folder, beside)


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_an_adapter_that_is_trained_without_what_is_named_is_merged(healthy: Path, tmp_path: Path) -> None:
    modules = ["lm_head", "c_attn"]
    text = refused(adapter(healthy, tmp_path / "lora", target_modules=modules, fan_in_fan_out=False), most=900)
    tied = re.findall(r"tied weights \(([^)]+)\)", text)[0].split(", ")
    left = [module for module in modules if module not in tied]
    assert left == ["c_attn"]
    opened(adapter(healthy, tmp_path / "again", target_modules=left))


def test_of_a_learned_prompt_the_base_that_is_named_opens(healthy: Path, tmp_path: Path) -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    get_peft_model(AutoModelForCausalLM.from_pretrained(healthy), config).save_pretrained(tmp_path)
    text = refused(tmp_path)
    assert "merged model" not in text  # there is none
    opened(text.rpartition("audit the base, ")[2])


def test_modules_that_are_listed_by_name_are_read(
    healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "_SECONDS", 0.5)
    folder = adapter(healthy, tmp_path / "lora")
    change_json(folder / "adapter_config.json", target_modules="(([a-z._0-9]+)+)+!")
    assert says(refused(folder), "modules by name", "the merged model")
    change_json(folder / "adapter_config.json", target_modules=["c_attn"])
    opened(folder)
    opened(merged(healthy, folder, tmp_path / "merged"))


# -- options ------------------------------------------------------------------------------------------------------

PACKAGE = Path(circuit_assertions.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![a-z-])")  # not the beginning of one, as "--no-"
VERBS = (
    "audit",
    "calibrate",
    "show-task",
    "diagnose",
    "discover",
    "edges",
    "graft",
    "mutate",
    "policy",
    "trajectory",
    *("cache", "init", "compare", "list", "show", "masks", "hunt", "track", "plan", "sweep"),
    *("traces", "wrapped", "tasks"),
    "measures",
    "validate",
    "schema",
)


def options_of_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    return set(OPTION.findall(capsys.readouterr().out))


def options_named() -> dict[str, str]:
    """Every option in a text of the package, with a place where it stands. Docstrings are read by people too."""
    found: dict[str, str] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for option in OPTION.findall(node.value):
                    found.setdefault(option, f"{file.name}:{node.lineno}")
    return found


def test_every_option_that_a_text_names_is_one(pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    known = set(OPTION.findall(pytester.runpytest_inprocess("--help").stdout.str()))
    capsys.readouterr()
    for verb in VERBS:
        known |= options_of_verb(verb, capsys)
    named = options_named()
    assert {"--allow-pickle", "--model-dtype", "--baseline", "--bisect"} <= set(named)
    others = {"--head"}  # of `ray start`
    assert {option: place for option, place in named.items() if option not in known | others} == {}


@pytest.mark.parametrize(
    "verb", ["discover", "edges", "diagnose", "trajectory", "graft", "mutate", "calibrate", "show-task"]
)
def test_verbs_accept_what_messages_about_the_files_that_they_read_suggest(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    suggested = {
        option
        for file in (PACKAGE / "checkpoints").rglob("*.py")
        for text in printed_in(file)
        if text.kind == "printed"
        for option in OPTION.findall(text.text)
    }
    assert {"--allow-pickle", "--trust-remote-code", "--tokenizer", "--baseline", "--model-dtype"} <= suggested
    # A graft keeps the checkpoints' own dtype, reads no tokenizer, and takes the other one for an adapter's base; the
    # prompts of a task are made without weights.
    needless = {
        "graft": {"--tokenizer", "--baseline", "--model-dtype"},
        "show-task": {"--model-dtype"},
    }.get(verb, set())
    assert suggested - needless <= options_of_verb(verb, capsys)


def test_only_extras_are_suggested_to_be_installed() -> None:
    """All else that is needed is a dependency."""
    texts = [one.text for file in PACKAGE.rglob("*.py") for one in printed_in(file) if one.kind == "printed"]
    asked = [text for text in texts if "pip install" in text]
    assert asked
    assert [text for text in asked if "circuit-assertions[" not in text] == []
