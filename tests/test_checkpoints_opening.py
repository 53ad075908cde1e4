"""An opened checkpoint is the model that was saved: raw weights, its own logits, no file touched, little memory."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from checkpoint_files import ON_CPU, WEIGHTS, change_json, change_tensors, copy_of, hashes, opened
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_models import ARCHITECTURES, config_of, random_model, save_tiny
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.activations import ACT2FN

from circuit_assertions.checkpoints import Checkpoint, CheckpointError, Opening, Permissions, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint, open_tokenizer

TOKENS = torch.tensor([[5, 9, 17, 9, 5, 60, 61, 9], [70, 2, 3, 44, 45, 46, 70, 2]])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("tiny") / "gpt2")


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of `tiny`. Not to be changed."""
    return _save_adapter(tiny, tmp_path_factory.mktemp("adapter") / "lora")


def _save_adapter(base: Path, folder: Path, *, named: str | None = None, **changes: Any) -> Path:
    settings: dict[str, Any] = {"r": 4, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}
    config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **(settings | changes))
    torch.manual_seed(0)
    get_peft_model(_hf(base), config).save_pretrained(folder)
    change_json(folder / "adapter_config.json", base_model_name_or_path=named or str(base))
    return folder


def _hf(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


@torch.no_grad()
def _logits(model: Any) -> Tensor:
    output = model(TOKENS)
    logits: Tensor = getattr(output, "logits", output)
    return logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_bridge_computes_what_hugging_face_computes(architecture: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / architecture, architecture)
    before = hashes(folder)
    source = opened(folder)
    torch.testing.assert_close(_logits(source.bridge), _logits(_hf(folder)), atol=1e-4, rtol=0)
    assert source.architecture == type(_hf(folder)).__name__
    assert hashes(folder) == before


@pytest.mark.parametrize(("dtype", "apart"), [("float64", 1e-13), ("float32", 1e-5), ("bfloat16", 0.0)])
def test_a_fused_activation_is_the_same_function_and_half_precision_keeps_its_own(
    dtype: str, apart: float, tmp_path: Path
) -> None:
    folder = save_tiny(tmp_path)
    bridge = open_checkpoint(find_checkpoints(str(folder))[0], Opening(device="cpu", dtype=dtype)).bridge
    act = bridge.original_model.transformer.h[0].mlp.act
    assert (type(act) is type(ACT2FN["gelu_new"])) == (dtype == "bfloat16")
    rows = torch.linspace(-9, 9, 999, dtype=getattr(torch, dtype))
    torch.testing.assert_close(act(rows), ACT2FN["gelu_new"](rows), rtol=0, atol=apart)


def test_weights_are_raw_and_in_float32_unless_told_otherwise(tiny: Path) -> None:
    source = opened(tiny)
    assert source.dtype == torch.float32
    stored = {name: tensor for name, tensor in _hf(tiny).named_parameters() if "ln_" in name}
    kept = dict(source.bridge.original_model.named_parameters())
    assert len(stored) == 14  # nothing is folded into anything: the norms keep their gains and biases
    for name, tensor in stored.items():
        found = [value for key, value in kept.items() if key.replace("._original_component", "").endswith(name)]
        assert any(torch.equal(tensor, value) for value in found), name


def test_weights_saved_in_half_precision_are_read_in_float32(tiny: Path, tmp_path: Path) -> None:
    _hf(tiny).half().save_pretrained(tmp_path)
    source = opened(tmp_path, Opening(device="cpu", tokenizer=str(tiny)))
    assert {parameter.dtype for parameter in source.bridge.parameters()} == {torch.float32}


def test_another_dtype_is_taken_where_it_is_asked_for(tiny: Path) -> None:
    source = opened(tiny, Opening(device="cpu", dtype="bfloat16"))
    assert {parameter.dtype for parameter in source.bridge.parameters()} == {torch.bfloat16}
    assert source.fingerprint == opened(tiny).fingerprint


def test_shards_open_like_a_single_file(tiny: Path, tmp_path: Path) -> None:
    _hf(tiny).save_pretrained(tmp_path, max_shard_size="50KB")
    assert not (tmp_path / WEIGHTS).exists()
    whole, sharded = opened(tiny), opened(tmp_path, Opening(device="cpu", tokenizer=str(tiny)))
    assert torch.equal(_logits(whole.bridge), _logits(sharded.bridge))
    assert whole.fingerprint == sharded.fingerprint


def _random_states() -> tuple[bytes, object, bytes]:
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), pickle.dumps(np.random.get_state())


def test_opening_leaves_the_callers_random_numbers_alone(tiny: Path, adapter: Path) -> None:
    for folder in (tiny, adapter):
        before = _random_states()
        opened(folder)
        assert _random_states() == before


def test_opening_prints_nothing(tiny: Path, adapter: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for folder in (tiny, adapter):
        opened(folder)
    assert capfd.readouterr() == ("", "")


def test_a_hub_id_opens_from_the_local_cache(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--org--name"
    copy_of(tiny, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert opened("org/name@v1").fingerprint == opened(tiny).fingerprint
    with pytest.raises(CheckpointError, match=r"^org/name@v2\b.*\bHub\b"):
        opened("org/name@v2")


@pytest.mark.parametrize("changes", [{}, {"use_dora": True}, {"modules_to_save": ["ln_f"]}, {"use_rslora": True}])
def test_an_adapter_is_merged_into_what_it_computes_and_no_file_is_touched(
    changes: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    folder = _save_adapter(tiny, tmp_path / "lora", **changes)
    before = hashes(tiny), hashes(folder)
    source = opened(folder)
    expected = _logits(PeftModel.from_pretrained(_hf(tiny), folder).eval())
    torch.testing.assert_close(_logits(source.bridge), expected, atol=1e-4, rtol=0)
    assert not torch.allclose(expected, _logits(_hf(tiny)), atol=1e-1)
    assert (hashes(tiny), hashes(folder)) == before


def test_an_adapter_has_a_fingerprint_of_its_own(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    other = copy_of(adapter, tmp_path / "other")

    def nudge(tensors: dict[str, Tensor]) -> None:
        next(iter(tensors.values()))[0, 0] += 1e-4

    change_tensors(other / "adapter_model.safetensors", nudge)
    assert len({opened(folder).fingerprint for folder in (tiny, adapter, other)}) == 3


def test_an_adapters_base_may_be_named_from_the_working_directory(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = copy_of(tiny, tmp_path / "models" / "base")
    folder = _save_adapter(base, tmp_path / "elsewhere" / "lora", named="models/base")
    monkeypatch.chdir(tmp_path)
    assert opened(folder).architecture == "GPT2LMHeadModel"


@pytest.mark.parametrize("named", ["../base", "base"])
def test_an_adapters_base_may_be_named_from_its_own_folder(tiny: Path, tmp_path: Path, named: str) -> None:
    folder = tmp_path / "lora"
    base = copy_of(tiny, folder / named)
    assert opened(_save_adapter(base, folder, named=named)).architecture == "GPT2LMHeadModel"


def test_an_adapter_whose_base_is_not_there_takes_the_baseline(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    lost = copy_of(adapter, tmp_path / "lora")
    for named in ("/not/here", "org/not-cached", None):
        change_json(lost / "adapter_config.json", base_model_name_or_path=named)
        with pytest.raises(CheckpointError, match=r"adapter.*--baseline=path/"):
            opened(lost)
        source = opened(lost, Opening(device="cpu", base=Checkpoint("tiny", folder=tiny)))
        assert source.fingerprint == opened(adapter).fingerprint


def test_a_run_of_adapters_opens_step_by_step(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    for name in (".", "checkpoint-9", "checkpoint-10"):
        (tmp_path / name).mkdir(exist_ok=True)
        for file in adapter.iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    for checkpoint in find_checkpoints(str(tmp_path)):
        assert open_checkpoint(checkpoint, ON_CPU).fingerprint == opened(adapter).fingerprint


def test_a_checkpoint_without_a_tokenizer_takes_the_baselines(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    bare = copy_of(tiny, tmp_path / "bare", without="tokenizer.json")
    assert bare.name == "bare"
    with pytest.raises(CheckpointError, match="has no tokenizer: give one with --tokenizer=path/"):
        opened(bare)
    expected = open_tokenizer(Checkpoint("tiny", folder=tiny)).get_vocab()
    for lender in (Checkpoint("tiny", folder=tiny), Checkpoint("lora", folder=adapter, adapter=True)):
        assert opened(bare, Opening(device="cpu", base=lender)).tokenizer.get_vocab() == expected
    assert opened(bare, Opening(device="cpu", tokenizer=str(tiny))).tokenizer.get_vocab() == expected


def test_a_given_tokenizer_goes_before_the_checkpoints_own(tiny: Path, tmp_path: Path) -> None:
    other = copy_of(tiny, tmp_path / "other")
    change_json(other / "tokenizer_config.json", model_max_length=7)
    checkpoint = Checkpoint("tiny", folder=tiny)
    assert open_tokenizer(checkpoint, Opening(tokenizer=str(other))).model_max_length == 7
    assert open_tokenizer(checkpoint).model_max_length != 7


def test_pickled_weights_open_where_they_are_allowed(tiny: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny, tmp_path / "pickled", without=WEIGHTS)
    torch.save(_hf(tiny).state_dict(), folder / "pytorch_model.bin")
    allowed = Opening(device="cpu", permissions=Permissions(pickle=True))
    assert torch.equal(_logits(opened(folder, allowed).bridge), _logits(opened(tiny).bridge))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*pickle.*--allow-pickle"):
        opened(folder)


_MEASURE = """
import gc
import sys
from checkpoint_files import opened

def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))

opened(sys.argv[1])  # whatever is imported or allocated once
for folder in sys.argv[2:]:
    open("/proc/self/clear_refs", "w").write("5")  # the peak from here on
    before = memory("VmRSS")
    source = opened(folder)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in source.bridge.parameters())
    print((memory("VmHWM") - before) / weights, weights)
    del source
    gc.collect()
"""


@pytest.mark.complete
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_opening_needs_little_more_memory_than_the_weights(tiny: Path, tmp_path: Path) -> None:
    wide = {"n_embd": 1024, "n_layer": 3, "n_positions": 64}
    embedding = {"n_embd": 512, "vocab_size": 60_000, "n_positions": 8192}
    folders = [tmp_path / "wide", tmp_path / "embedding"]
    for folder, shape in zip(folders, (wide, embedding), strict=True):
        AutoModelForCausalLM.from_config(config_of("gpt2", 191, **shape)).save_pretrained(folder)
        open_tokenizer(Checkpoint("tiny", folder=tiny)).save_pretrained(folder)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-W", "ignore", "-c", _MEASURE, str(tiny), *map(str, folders)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        share, weights = (float(word) for word in line.split())
        assert weights > 140e6
        assert 0.5 < share <= 1.3


def test_random_models_differ_by_seed() -> None:
    # The comparisons above would say nothing of models that are all alike.
    config = config_of("gpt2", 191)
    assert not torch.equal(_logits(random_model(config, 0)), _logits(random_model(config, 1)))
