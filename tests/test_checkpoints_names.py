"""A checkpoint is known by its weights, shape and function: neither class names nor wrappers' prefixes decide."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import ON_CPU, WEIGHTS, change_json, change_tensors, copy_of, hashes, opened
from peft import LoraConfig, get_peft_model
from reference_model import word_tokenizer
from tiny_models import ARCHITECTURES, config_of, random_model, save_tiny
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Model

from circuit_assertions.assertions.circuits import Base, Circuit, Fits, bind
from circuit_assertions.checkpoints import CheckpointError, Opening, Permissions, fingerprint
from circuit_assertions.checkpoints.prefixes import plain_name
from circuit_assertions.shape import Shape

TOKENS = torch.tensor([[5, 9, 17, 9, 5, 60, 61, 9]])
VOCABULARY = len(word_tokenizer())


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("healthy") / "gpt2")


@pytest.fixture
def model(healthy: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return copy_of(healthy, tmp_path / "model")


@torch.no_grad()
def _logits(folder: Path, opening: Opening = ON_CPU) -> Tensor:
    logits: Tensor = opened(folder, opening).bridge(TOKENS)
    return logits


# -- class names --------------------------------------------------------------------------------------------------


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    "names",
    [
        ["FSDPGPT2LMHeadModel"],
        ["PeftModelForCausalLM"],
        ["OptimizedModule"],
        ["DistributedDataParallel"],
        ["MyGPT2LMHeadModel", "GPT2LMHeadModel"],
        ["gpt2lmheadmodel"],
        ["GPT2Model"],
        ["Missing"],
        [],
        None,
    ],
)
def test_the_class_that_config_json_names_has_no_say(healthy: Path, model: Path, names: list[str] | None) -> None:
    change_json(model / "config.json", architectures=names)
    source, plain = opened(model), opened(healthy)
    assert (source.architecture, source.fingerprint) == (plain.architecture, plain.fingerprint)
    assert source.architecture == "GPT2LMHeadModel"
    assert torch.equal(source.bridge(TOKENS), plain.bridge(TOKENS))
    assert source.notes == ()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_wrappers_class_name_is_read_as_the_class_itself(architecture: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, architecture)
    expected = json.loads((folder / "config.json").read_text())["architectures"][0]
    change_json(folder / "config.json", architectures=[f"FSDP{expected}"])
    assert opened(folder).architecture == expected


def test_a_body_saved_without_its_tied_head_is_the_same_model(healthy: Path, tmp_path: Path) -> None:
    whole = AutoModelForCausalLM.from_pretrained(healthy)
    whole.transformer.save_pretrained(tmp_path)
    assert type(whole.transformer) is GPT2Model
    word_tokenizer().save_pretrained(tmp_path)
    assert torch.equal(_logits(tmp_path), _logits(healthy))
    assert opened(tmp_path).fingerprint == opened(healthy).fingerprint


def test_a_body_whose_head_is_not_tied_lacks_it(tmp_path: Path) -> None:
    random_model(config_of("llama", VOCABULARY)).model.save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"lacks 1 of the tensors .*, lm_head.weight among them"):
        opened(tmp_path)


# -- wrappers' prefixes -------------------------------------------------------------------------------------------


def _inside(name: str) -> str:
    return name.replace("transformer.h.1.", "transformer.h.1._checkpoint_wrapped_module.")


PREFIXES: dict[str, Callable[[str], str]] = {
    "_orig_mod": lambda name: f"_orig_mod.{name}",
    "module": lambda name: f"module.{name}",
    "_fsdp_wrapped_module": lambda name: f"_fsdp_wrapped_module.{name.replace('h.', 'h.')}",
    "base_model.model": lambda name: f"base_model.model.{name}",
    "_checkpoint_wrapped_module": _inside,
    "module._orig_mod": lambda name: f"module._orig_mod.{_inside(name)}",
    "_orig_mod on some": lambda name: f"_orig_mod.{name}" if "attn" in name else name,
    "base_model.model of a compiled": lambda name: f"_orig_mod.base_model.model.{name}",
}


def _renamed(folder: Path, rename: Callable[[str], str]) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        renamed = {rename(name): tensor for name, tensor in tensors.items()}
        tensors.clear()
        tensors.update(renamed)

    change_tensors(folder / WEIGHTS, change)


@pytest.mark.sample(4)
@pytest.mark.parametrize("wrapper", PREFIXES)
def test_a_wrappers_prefix_is_taken_off_and_told(healthy: Path, model: Path, wrapper: str) -> None:
    _renamed(model, PREFIXES[wrapper])
    before = hashes(model)
    source, plain = opened(model), opened(healthy)
    assert source.fingerprint == plain.fingerprint
    assert torch.equal(source.bridge(TOKENS), plain.bridge(TOKENS))
    (note,) = source.notes
    named = ".".join(re.findall(r"`([\w.]+)`", note))
    assert all(part in named for part in wrapper.partition(" ")[0].split("."))
    assert hashes(model) == before
    assert fingerprint([model / WEIGHTS]) == fingerprint([healthy / WEIGHTS])


def test_prefixes_in_pickles_are_taken_off_too(healthy: Path, model: Path) -> None:
    state = AutoModelForCausalLM.from_pretrained(healthy).state_dict()
    (model / WEIGHTS).unlink()
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, model / "pytorch_model.bin")
    allowed = Opening(device="cpu", permissions=Permissions(pickle=True))
    assert torch.equal(_logits(model, allowed), _logits(healthy))


def test_a_peft_model_saved_whole_and_unmerged_is_refused_and_names_its_adapter(healthy: Path, model: Path) -> None:
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(healthy), LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True)
    )
    state = {name: tensor.clone() for name, tensor in adapted.state_dict().items() if "lm_head" not in name}
    _renamed(model, lambda name: "")
    change_tensors(model / WEIGHTS, lambda tensors: tensors.update(state))
    change_tensors(model / WEIGHTS, lambda tensors: tensors.pop(""))
    with pytest.raises(CheckpointError, match=r"lora_A|base_layer|c_attn"):
        opened(model)


def test_no_name_of_a_model_is_taken_for_a_wrappers() -> None:
    for architecture in ARCHITECTURES:
        for name in random_model(config_of(architecture, VOCABULARY)).state_dict():
            assert plain_name(name) == name


# -- what is no tensor --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_norm_epsilon": 1e-3},
        {"activation_function": "relu"},
        {"n_head": 2},
        {"scale_attn_by_inverse_layer_idx": True},
    ],
)
def test_the_fingerprint_covers_settings_that_change_the_function(
    healthy: Path, model: Path, changes: dict[str, Any]
) -> None:
    change_json(model / "config.json", **changes)
    source, plain = opened(model), opened(healthy)
    assert source.fingerprint != plain.fingerprint
    assert source.fingerprint.partition("-")[0] == plain.fingerprint.partition("-")[0]
    (told,) = plain.function.differences(source.function)
    name, value = next(iter(changes.items()))
    before = json.loads((healthy / "config.json").read_text())[name]
    assert told == f"config.json differs in {name} ({before} -> {value})"
    assert not torch.allclose(source.bridge(TOKENS), plain.bridge(TOKENS))


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("llama", {"rms_norm_eps": 1e-3}),
        ("llama", {"hidden_act": "gelu"}),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}}),
        ("gemma2", {"final_logit_softcapping": 5.0}),
        ("gemma2", {"attn_logit_softcapping": 5.0}),
        ("gemma2", {"sliding_window": 2}),
        ("gemma2", {"query_pre_attn_scalar": 64}),
        ("gpt-neox", {"use_parallel_residual": False}),
        ("opt", {"activation_function": "gelu"}),
    ],
)
def test_other_architectures_have_such_settings_too(architecture: str, changes: dict[str, Any], tmp_path: Path) -> None:
    one, other = (save_tiny(tmp_path / name, architecture) for name in ("one", "other"))
    change_json(other / "config.json", **changes)
    assert opened(one).fingerprint != opened(other).fingerprint


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    "changes",
    [
        {"_name_or_path": "somebody/else"},
        {"transformers_version": "4.1.0"},
        {"dtype": "bfloat16"},
        {"torch_dtype": "float16"},
        {"use_cache": False},
        {"attn_pdrop": 0.3, "resid_pdrop": 0.3},
        {"initializer_range": 0.7},
        {"bos_token_id": 1, "eos_token_id": 2},
        {"n_inner": 128},
        {"my_own_note": "trained on a Tuesday"},
        {"unsloth_version": "2026.1"},
    ],
)
def test_names_dates_and_training_settings_change_no_fingerprint(
    healthy: Path, model: Path, changes: dict[str, Any]
) -> None:
    change_json(model / "config.json", **changes)
    assert opened(model).fingerprint == opened(healthy).fingerprint


def test_a_default_that_is_spelled_out_changes_no_fingerprint(healthy: Path, model: Path) -> None:
    content = json.loads((model / "config.json").read_text())
    kept = ("n_embd", "n_layer", "n_head", "n_positions", "vocab_size", "model_type")
    (model / "config.json").write_text(json.dumps({key: content[key] for key in kept}))
    assert opened(model).fingerprint == opened(healthy).fingerprint


def _circuit(fingerprint_of_base: str, architecture: str = "GPT2LMHeadModel") -> Circuit:
    fits = Fits(architecture=architecture, layers=3, heads=4, d_model=32)
    base = Base(id="x", fingerprint=fingerprint_of_base)
    said = {"circuit": "ioi", "fits": fits.model_dump(), "base": base.model_dump(), "roles": {"a": ["L0H0"]}}
    return Circuit.model_validate(said)


def test_a_lineage_is_certain_while_weights_and_settings_are_the_same(healthy: Path, model: Path) -> None:
    shape = Shape("GPT2LMHeadModel", 3, 4, 32)
    own = opened(healthy).fingerprint
    change_json(model / "config.json", activation_function="relu")
    changed = opened(model).fingerprint
    weights = own.partition("-")[0]

    def certain(circuit: Circuit, now: str) -> bool | None:
        bound = bind([circuit], "ioi", shape, [now])
        return None if bound is None else bound.certain

    assert certain(_circuit(own), own) is True
    assert certain(_circuit(own), changed) is False
    assert certain(_circuit(weights), own) is True  # a file that names the weights alone
    assert certain(_circuit(own, "FSDPGPT2LMHeadModel"), own) is True  # as an earlier version wrote it
    assert certain(_circuit("0" * 64, "FSDPGPT2LMHeadModel"), own) is None
