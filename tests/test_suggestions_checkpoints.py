"""What a message about a checkpoint suggests works: taken out of the printed text and followed, it opens the model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from auditing import repeated
from checkpoint_files import ON_CPU, WEIGHTS, change_json, change_tensors, copy_of, opened, refused
from patching_cases import TASK
from safetensors.torch import load_file
from said import says
from test_survey import saved
from tiny_models import config_of, random_model, save_tiny
from transformers import AutoModelForCausalLM, GPT2LMHeadModel, PreTrainedModel

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import DeviceError, Opening, Permissions, find_checkpoints
from circuit_assertions.checkpoints.devices import choose_device
from circuit_assertions.engine import MeasuringError
from circuit_assertions.heads import Head
from circuit_assertions.measures import Receiver
from circuit_assertions.request import Request
from circuit_assertions.tasks import TaskError

MLP = "transformer.h.1.mlp.c_fc.weight"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("healthy") / "gpt2")


@pytest.fixture
def model(healthy: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return copy_of(healthy, tmp_path / "model")


def options_in(text: str) -> dict[str, str]:
    """The options that a message names, with their values."""
    return dict(re.findall(r"(--[a-z-]+)(?:=([\w/.-]+))?", text))


def given(text: str, path: Path | None = None) -> Opening:
    """How a checkpoint is opened with the first option that a message names.

    Args:
        path: what stands for `path/`.
    """
    option, value = next(iter(options_in(text).items()))
    if value == "path/":
        assert path is not None
        value = str(path)
    changes: dict[str, Callable[[], dict[str, Any]]] = {
        "--allow-pickle": lambda: {"permissions": Permissions(pickle=True)},
        "--trust-remote-code": lambda: {"permissions": Permissions(remote_code=True)},
        "--tokenizer": lambda: {"tokenizer": value},
        "--baseline": lambda: {"base": find_checkpoints(value)[-1]},
        "--model-dtype": lambda: {"dtype": value},
    }
    return replace(ON_CPU, **changes[option]())


def saved_again(loaded: PreTrainedModel, folder: Path, healthy: Path) -> Path:
    """What `save_pretrained` writes, with the tokenizer of the healthy one."""
    loaded.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(healthy / name, folder / name)
    return folder


def says_save_pretrained(text: str) -> bool:
    (name,) = set(re.findall(r"(?<![\w.])(?:model\.)?(save_\w+)(?:\(\.\.\.\))?", text))
    return callable(getattr(PreTrainedModel, name))


# -- options ------------------------------------------------------------------------------------------------------


def _pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def _with_code(folder: Path) -> None:
    change_json(folder / "config.json", auto_map={"AutoModelForX": "nowhere.X"})


def _in_custom_generate(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text("")


def _large(folder: Path) -> None:
    change_tensors(folder / WEIGHTS, lambda tensors: tensors[MLP].fill_(1e6))


def _larger_inside(folder: Path) -> None:
    change_tensors(folder / WEIGHTS, lambda tensors: tensors[MLP].fill_(6e4))


def _without_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def _with_a_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


HALF = replace(ON_CPU, dtype="float16")
BY_OPTION: dict[str, tuple[Callable[[Path], object], Opening, str]] = {
    "pickles": (_pickled, ON_CPU, "--allow-pickle"),
    "code": (_with_code, ON_CPU, "--trust-remote-code"),
    "generation code": (_in_custom_generate, ON_CPU, "--trust-remote-code"),
    "too large for float16": (_large, HALF, "--model-dtype"),
    "overflow in float16": (_larger_inside, HALF, "--model-dtype"),
    "no tokenizer": (_without_tokenizer, ON_CPU, "--tokenizer"),
    "a broken tokenizer": (_with_a_broken_tokenizer, ON_CPU, "--tokenizer"),
}


@pytest.mark.parametrize("what", BY_OPTION)
def test_an_option_that_is_suggested_opens_the_checkpoint(model: Path, healthy: Path, what: str) -> None:
    spoil, opening, option = BY_OPTION[what]
    spoil(model)
    text = refused(model, opening)
    assert next(iter(options_in(text))) == option
    opened(model, given(text, healthy))


def test_either_option_that_is_suggested_for_a_tokenizer_works(model: Path, healthy: Path) -> None:
    _without_tokenizer(model)
    named = re.findall(r"--[a-z-]+=path/", refused(model))
    assert named == ["--tokenizer=path/", "--baseline=path/"]
    for one in named:
        opened(model, given(one, healthy))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_dtype_is_suggested_where_none_would_help(model: Path, dtype: str, value: float) -> None:
    change_tensors(model / WEIGHTS, lambda tensors: tensors[MLP].fill_(value))
    text = refused(model, replace(ON_CPU, dtype=dtype))
    assert "--model-dtype" not in text
    assert says(text, "an earlier checkpoint")


def test_no_dtype_is_suggested_for_overflow_in_a_type_of_the_same_range(model: Path) -> None:
    change_tensors(model / WEIGHTS, lambda tensors: tensors[MLP].fill_(3e38))
    assert "--model-dtype" not in refused(model, replace(ON_CPU, dtype="bfloat16"))


@pytest.mark.parametrize("wrong", ["toaster", "meta", "mps", "cuda:77", "xla"])
def test_every_device_that_is_suggested_is_there(wrong: str) -> None:
    with pytest.raises(DeviceError) as raised:
        choose_device(wrong)
    offered = re.split(r", | or ", str(raised.value).rpartition("use ")[2])
    assert {"auto", "cpu"} <= set(offered)
    for name in offered:
        choose_device(name)


# -- what is saved again ------------------------------------------------------------------------------------------


def _elsewhere(folder: Path) -> None:
    shutil.copyfile(folder / WEIGHTS, folder / "other.safetensors")
    change_json(folder / "config.json", transformers_weights="other.safetensors")


def _other_config(folder: Path) -> None:
    shutil.copyfile(folder / "config.json", folder / "config.4.0.0.json")
    change_json(folder / "config.json", configuration_files=["config.4.0.0.json"])


def _no_list(folder: Path) -> None:
    change_json(folder / "config.json", architectures="GPT2LMHeadModel")


def _unknown(folder: Path) -> None:
    change_json(folder / "config.json", model_type="gpt-of-tomorrow", architectures=["TomorrowForCausalLM"])


def _whole_numbers(folder: Path) -> None:
    change_tensors(folder / WEIGHTS, lambda tensors: tensors.update({MLP: tensors[MLP].round().to(torch.int32)}))


def _named_twice(folder: Path) -> None:
    change_tensors(folder / WEIGHTS, lambda tensors: tensors.update({f"module.{MLP}": tensors[MLP] + 1}))


SAVED_AGAIN: dict[str, Callable[[Path], object]] = {
    "pickles": _pickled,
    "weights elsewhere": _elsewhere,
    "configuration elsewhere": _other_config,
    "architectures": _no_list,
    "an unknown architecture": _unknown,
    "whole numbers": _whole_numbers,
    "a tensor twice": _named_twice,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", SAVED_AGAIN)
def test_a_checkpoint_that_is_saved_again_as_suggested_opens(
    model: Path, healthy: Path, tmp_path: Path, what: str
) -> None:
    SAVED_AGAIN[what](model)
    text = refused(model)
    assert says(text, "save", "model again") or says_save_pretrained(text)
    loaded = GPT2LMHeadModel.from_pretrained(model)
    opened(saved_again(loaded, tmp_path / "again", healthy))


def test_weights_without_a_configuration_open_once_saved_as_suggested(
    model: Path, healthy: Path, tmp_path: Path
) -> None:
    (model / "config.json").unlink()
    assert says_save_pretrained(refused(model))
    opened(saved_again(AutoModelForCausalLM.from_pretrained(healthy), tmp_path / "again", healthy))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), {"__float__": "Infinity"}])
def test_a_number_that_is_corrected_where_the_message_says_opens(model: Path, value: object) -> None:
    change_json(model / "config.json", layer_norm_epsilon=value)
    found = re.search(r"(\S+config\.json) has (\w+) .*: correct it there", refused(model))
    assert found is not None
    change_json(Path(found[1]), **{found[2]: 1e-5})
    opened(model)


def test_more_than_a_state_dict_opens_once_only_that_is_saved(model: Path) -> None:
    tensors = load_file(model / WEIGHTS)
    (model / WEIGHTS).unlink()
    torch.save({"epoch": 3, "state_dict": tensors}, model / "pytorch_model.bin")
    allowed = given(refused(model))
    assert says(refused(model, allowed), "save only", "state dict")
    torch.save(tensors, model / "pytorch_model.bin")
    opened(model, allowed)


def test_what_makes_plain_numbers_of_quantized_ones_is_a_method(model: Path) -> None:
    change_json(model / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    (name,) = re.findall(r"`model\.(\w+)\(\)`", text := refused(model))
    assert callable(getattr(PreTrainedModel, name))
    assert callable(getattr(PreTrainedModel, re.findall(r"then (\w+)\)", text)[0]))


# -- opened, and refused by what is measured ----------------------------------------------------------------------


def test_a_tokenizer_that_is_given_as_suggested_belongs_to_the_model(model: Path, tmp_path: Path) -> None:
    random_model(config_of("gpt2", 20)).save_pretrained(tmp_path / "small")
    shutil.copyfile(model / "tokenizer.json", tmp_path / "small" / "tokenizer.json")
    task = repeated(prompts=2, length=4, bos="never")
    (checkpoint,) = find_checkpoints(str(tmp_path / "small"))
    with pytest.raises(TaskError) as raised:
        Audit(ON_CPU).prompts(task, checkpoint)
    (own,) = find_checkpoints(str(model))
    with_the_right_one = given(str(raised.value), model)
    assert Audit(with_the_right_one).prompts(task, own).prompts


def test_prompts_that_are_as_short_as_suggested_fit(model: Path) -> None:
    audit, (checkpoint,) = Audit(ON_CPU), find_checkpoints(str(model))
    with pytest.raises(TaskError) as raised:
        audit.prompts(repeated(prompts=2, length=60), checkpoint)
    (key,) = re.findall(r"`(\w+):`", str(raised.value))
    (room,) = re.findall(r" reads (\d+)", str(raised.value))
    assert audit.prompts(repeated(prompts=2, **{key: int(room) // 2 - 1}), checkpoint).longest <= int(room)


@pytest.mark.filterwarnings("ignore::circuit_assertions.engine.SlowPatchingWarning")
def test_a_whole_group_of_heads_may_receive_as_suggested(tmp_path: Path) -> None:
    folder, words = saved("nanochat", tmp_path)
    audit, (checkpoint,) = Audit(replace(ON_CPU, tokenizer=str(words))), find_checkpoints(str(folder))

    def read(heads: tuple[Head, ...]) -> None:
        audit.read(
            Request("path-effect", TASK, (("receiver", Receiver("k", heads, "end")),), (Head(0, 0),)), checkpoint
        )

    with pytest.raises(MeasuringError) as raised:
        read((Head(2, 0),))
    (share,) = re.findall(r"groups of (\d+): .*\ball heads\b", str(raised.value))
    read(tuple(Head(2, head) for head in range(int(share))))
