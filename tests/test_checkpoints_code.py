"""No code from a checkpoint runs unless that is permitted, and a file of Python that nothing names is no reason."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import ON_CPU, WEIGHTS, change_json, copy_of, opened
from peft import LoraConfig, get_peft_model
from tiny_models import save_tiny
from transformers import AutoModelForCausalLM

from circuit_assertions.checkpoints import CheckpointError, Opening, Permissions

CODE = "import pathlib\npathlib.Path({mark!r}).touch()\n"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("healthy") / "gpt2")


@pytest.fixture
def model(healthy: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return copy_of(healthy, tmp_path / "model")


@pytest.fixture
def code(tmp_path: Path) -> str:
    """Python that leaves a mark."""
    return CODE.format(mark=str(tmp_path / "sprung"))


def _adapter(base: Path, folder: Path) -> Path:
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "name",
    ["zero_to_fp32.py", "modeling.py", "modeling_gpt2.py", "train.py", "conftest.py", "setup.py", "generate.py"],
)
def test_a_file_of_python_that_nothing_names_neither_runs_nor_stops(
    model: Path, tmp_path: Path, code: str, name: str
) -> None:
    (model / name).write_text(code)
    assert opened(model).architecture == "GPT2LMHeadModel"
    adapter = _adapter(model, tmp_path / "lora")
    (adapter / name).write_text(code)
    assert opened(adapter).architecture == "GPT2LMHeadModel"
    assert not (tmp_path / "sprung").exists()


def _auto_map(folder: Path, key: str, name: str) -> None:
    change_json(folder / name, auto_map={key: "planted.Planted"})


NAMED: dict[str, Callable[[Path], object]] = {
    "auto_map in config.json": lambda folder: _auto_map(folder, "AutoConfig", "config.json"),
    "auto_map in config.json, for the model": lambda folder: _auto_map(folder, "AutoModelForCausalLM", "config.json"),
    "auto_map in config.json, nested": lambda folder: change_json(
        folder / "config.json", text_config={"auto_map": {"AutoConfig": "planted.Planted"}}
    ),
    "auto_map in config.json, on the hub": lambda folder: change_json(
        folder / "config.json", auto_map={"AutoConfig": "somebody/else--planted.Planted"}
    ),
    "auto_map in tokenizer_config.json": lambda folder: change_json(
        folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["planted.Planted", None]}
    ),
    "auto_map in tokenizer_config.json, as a list": lambda folder: change_json(
        folder / "tokenizer_config.json", auto_map=["planted.Planted", None]
    ),
    "custom_generate/generate.py": lambda folder: _custom_generate(folder),
}


def _custom_generate(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "planted.py").rename(folder / "custom_generate" / "generate.py")


@pytest.mark.parametrize("how", NAMED)
def test_code_that_opening_could_run_is_named_and_does_not_run(
    model: Path, tmp_path: Path, code: str, how: str
) -> None:
    (model / "planted.py").write_text(code)
    NAMED[how](model)
    with pytest.raises(CheckpointError, match="--trust-remote-code") as caught:
        opened(model)
    assert how.partition(",")[0] in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_the_tokenizer_of_another_folder_is_looked_at_too(
    model: Path, healthy: Path, tmp_path: Path, code: str
) -> None:
    (model / "planted.py").write_text(code)
    change_json(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["planted.Planted", None]})
    with pytest.raises(CheckpointError, match=r"ships code \(auto_map in tokenizer_config.json\)"):
        opened(healthy, Opening(device="cpu", tokenizer=str(model)))
    assert not (tmp_path / "sprung").exists()


class _Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


HARMLESS: dict[str, Callable[[Path], object]] = {
    "chat template": lambda folder: change_json(
        folder / "tokenizer_config.json",
        chat_template="{{ ''.__class__.__mro__[1].__subclasses__() }}{% include 'planted.py' %}",
    ),
    "processor": lambda folder: [
        (folder / name).write_text(json.dumps({"auto_map": {"AutoProcessor": "planted.Planted"}}))
        for name in ("processor_config.json", "preprocessor_config.json")
    ],
    "generation": lambda folder: (folder / "generation_config.json").write_text(
        json.dumps({"custom_generate": ".", "auto_map": {"AutoConfig": "planted.Planted"}})
    ),
    "attention from a hub": lambda folder: change_json(
        folder / "config.json", attn_implementation="kernels-community/planted", _attn_implementation="./planted"
    ),
    "pipelines": lambda folder: change_json(
        folder / "config.json", custom_pipelines={"planted": {"impl": "planted.Planted", "pt": ["AutoModel"]}}
    ),
    "trust in the file": lambda folder: change_json(folder / "config.json", trust_remote_code=True),
    "trust in the tokenizer": lambda folder: change_json(folder / "tokenizer_config.json", trust_remote_code=True),
}


@pytest.mark.parametrize("how", HARMLESS)
def test_what_opening_does_not_read_neither_runs_nor_stops(model: Path, tmp_path: Path, code: str, how: str) -> None:
    (model / "planted.py").write_text(code)
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "pytorch_model.bin"):
        (model / name).write_bytes(pickle.dumps(_Trap(tmp_path / "sprung")))
    HARMLESS[how](model)
    assert opened(model).architecture == "GPT2LMHeadModel"
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_mapping": {"base_model_class": "Planted", "parent_library": "planted"}},
        {"auto_mapping": {"base_model_class": "Planted", "parent_library": "planted"}, "task_type": ""},
        {"megatron_config": {"a": 1}, "megatron_core": "planted"},
        {"auto_map": {"AutoModel": "planted.Planted"}},
    ],
)
def test_no_field_of_an_adapter_imports_a_module(
    healthy: Path, tmp_path: Path, code: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _adapter(healthy, tmp_path / "lora")
    (folder / "planted.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    change_json(folder / "adapter_config.json", **changes)
    with contextlib.suppress(CheckpointError):
        opened(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("how", ["a class", "a module"])
def test_quantization_by_a_class_of_ones_own_is_refused_and_not_imported(
    model: Path, tmp_path: Path, code: str, how: str
) -> None:
    (model / "planted.py").write_text(code)
    change_json(model / "config.json", quantization_config={"quant_method": "planted", how: "planted.Planted"})
    with pytest.raises(CheckpointError, match="holds quantized weights"):
        opened(model)
    assert not (tmp_path / "sprung").exists()


def test_code_runs_where_it_is_permitted(model: Path, tmp_path: Path, code: str) -> None:
    # The traps above would say nothing if code like theirs never ran.
    body = "from transformers import GPT2Config\nclass Planted(GPT2Config):\n    pass\n"
    (model / "planted.py").write_text(code + body)
    change_json(model / "config.json", auto_map={"AutoConfig": "planted.Planted"})
    with contextlib.suppress(CheckpointError):  # no model class is registered for this configuration
        opened(model, Opening(device="cpu", permissions=Permissions(remote_code=True)))
    assert (tmp_path / "sprung").exists()


def test_a_model_of_its_own_class_is_known_by_the_class_that_it_inherits_from(model: Path) -> None:
    body = "from transformers import GPT2LMHeadModel\nclass Planted(GPT2LMHeadModel):\n    pass\n"
    (model / "planted.py").write_text(body)
    change_json(model / "config.json", auto_map={"AutoModelForCausalLM": "planted.Planted"}, architectures=["Planted"])
    trusting = Opening(device="cpu", permissions=Permissions(remote_code=True))
    assert opened(model, trusting).architecture == "GPT2LMHeadModel"


def test_weights_beside_safetensors_in_another_format_are_not_what_is_read(model: Path) -> None:
    state = AutoModelForCausalLM.from_pretrained(model).state_dict()
    expected = opened(model).bridge(torch.tensor([[1, 2]]))
    torch.save({name: tensor + 1 for name, tensor in state.items()}, model / "pytorch_model.bin")
    (model / "distributed_checkpoint").mkdir()
    (model / WEIGHTS).with_name("consolidated.safetensors").write_bytes((model / WEIGHTS).read_bytes())
    assert torch.equal(opened(model, ON_CPU).bridge(torch.tensor([[1, 2]])), expected)
