"""What a configuration asks for is held against the files; runs that are being written; tokenizers and side files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import WEIGHTS, change_json, copy_of, opened, refused
from said import says
from tiny_models import save_tiny
from transformers import AutoModelForCausalLM

from circuit_assertions.checkpoints import Checkpoint, Opening, Permissions, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint, open_tokenizer


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("healthy") / "gpt2")


@pytest.fixture
def model(healthy: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return copy_of(healthy, tmp_path / "model")


# -- numbers without tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [10**6, 10**9, 10**30, 10**400, -(10**9), 1e9])
@pytest.mark.parametrize("key", ["n_layer", "num_hidden_layers", "n_embd", "vocab_size", "n_inner", "n_head"])
def test_a_number_that_no_tensor_fills_is_refused_at_once(model: Path, key: str, value: float) -> None:
    change_json(model / "config.json", **{key: value})
    assert "config.json" in refused(model)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("llama", {"num_hidden_layers": 10**8}),
        ("llama", {"intermediate_size": 10**10}),
        ("llama", {"head_dim": 10**10}),
        ("llama", {"num_key_value_heads": 10**9}),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "dim": 10**12}}),
        ("gpt-neox", {"hidden_size": 10**9}),
        ("opt", {"ffn_dim": 10**11}),
        ("opt", {"max_position_embeddings": 10**10}),
        ("gemma2", {"num_hidden_layers": 10**7}),
    ],
)
def test_other_architectures_are_bounded_too(architecture: str, changes: dict[str, Any], tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, architecture)
    change_json(folder / "config.json", **changes)
    assert "config.json" in refused(folder)


def test_pickled_weights_are_bounded_as_well(model: Path) -> None:
    torch.save(AutoModelForCausalLM.from_pretrained(model).state_dict(), model / "pytorch_model.bin")
    (model / WEIGHTS).unlink()
    change_json(model / "config.json", n_layer=10**9)
    allowed = Opening(device="cpu", permissions=Permissions(pickle=True))
    assert says(refused(model, allowed), model, "n_layer 1000000000", 3)


@pytest.mark.parametrize("changes", [{"n_positions": 1000}, {"eos_token_id": 10**6}, {"n_ctx": 10**9}])
def test_numbers_that_need_no_tensor_are_not_bounded(model: Path, changes: dict[str, Any]) -> None:
    change_json(model / "config.json", **changes)
    if "n_positions" in changes:
        assert "holds transformer.wpe.weight of shape (64, 32)" in refused(model)
    else:
        assert opened(model).architecture == "GPT2LMHeadModel"


# -- training runs ------------------------------------------------------------------------------------------------


def _run(healthy: Path, root: Path) -> Path:
    for step in (1, 2):
        copy_of(healthy, root / f"checkpoint-{step}")
    return root


BEGUN: dict[str, Callable[[Path], object]] = {
    "trainer state": lambda step: (step / "trainer_state.json").write_text("{}"),
    "config": lambda step: (step / "config.json").write_text("{}"),
    "optimizer": lambda step: (step / "optimizer.pt").write_bytes(b""),
    "deepspeed": lambda step: (step / "global_step3").mkdir(),
    "first shard": lambda step: (step / "model-00001-of-00002.safetensors").write_bytes(b""),
}


@pytest.mark.parametrize("what", BEGUN)
def test_a_step_that_has_no_weights_yet_is_skipped_and_told(healthy: Path, tmp_path: Path, what: str) -> None:
    run = _run(healthy, tmp_path / "run")
    (run / "checkpoint-3").mkdir()
    BEGUN[what](run / "checkpoint-3")
    found = find_checkpoints(str(run))
    assert [checkpoint.label for checkpoint in found] == ["checkpoint-1", "checkpoint-2"]
    assert found[-1].notes == ("skipped without weights: checkpoint-3",)
    assert opened(run).notes == found[-1].notes


@pytest.mark.parametrize("place", ["run", "step", "baseline"])
def test_a_step_takes_its_tokenizer_from_the_run_before_the_baseline(healthy: Path, tmp_path: Path, place: str) -> None:
    run = _run(healthy, tmp_path / "run")
    names = ("tokenizer.json", "tokenizer_config.json")
    lender = copy_of(healthy, tmp_path / "lender")
    change_json(lender / "tokenizer_config.json", model_max_length=7)
    for name in names:
        (run / name).write_bytes((healthy / name).read_bytes())
        if place != "step":
            (run / "checkpoint-1" / name).unlink()
        if place == "baseline":
            (run / name).unlink()
    if place != "baseline":
        change_json((run / "checkpoint-1" if place == "step" else run) / names[1], model_max_length=9)
    step = find_checkpoints(str(run))[0]
    opening = Opening(device="cpu", base=Checkpoint("lender", folder=lender))
    expected = 7 if place == "baseline" else 9
    assert open_tokenizer(step, opening).model_max_length == expected
    assert open_checkpoint(step, opening).tokenizer.model_max_length == expected


# -- side files ---------------------------------------------------------------------------------------------------


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "text",
    [
        "{nope",
        "",
        "[]",
        '{"temperature": -1, "do_sample": false}',
        '{"max_length": "many", "num_beams": 0}',
        '{"do_sample": false, "temperature": 0.3, "top_p": 7}',
        '{"cache_implementation": "planted"}',
        "[" * 100_000,
    ],
)
def test_a_bad_generation_config_stops_nothing(healthy: Path, model: Path, text: str) -> None:
    (model / "generation_config.json").write_text(text)
    source = opened(model)
    assert (source.fingerprint, source.notes) == (opened(healthy).fingerprint, ())


def test_a_tokenizer_that_reads_otherwise_than_its_file_is_told_with_both(model: Path) -> None:
    file = model / "tokenizer.json"
    content = json.loads(file.read_text())
    content["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(content))
    plain = opened(model).notes
    change_json(model / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    (note,) = opened(model).notes
    assert plain == ()
    assert says(note, "GPT2Tokenizer", "tokenizer.json")
    assert note.count("['") == 2  # the tokens that each of the two makes of one sentence


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt"])
def test_a_tokenizer_that_reads_as_its_file_does_is_not_spoken_of(architecture: str, tmp_path: Path) -> None:
    assert opened(save_tiny(tmp_path, architecture)).notes == ()


# -- hostile folders ----------------------------------------------------------------------------------------------


def _link_to_itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def _folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _index_of_nothing(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}')


HOSTILE: dict[str, Callable[[Path], object]] = {
    "weights are a folder": lambda folder: _folder_instead(folder / WEIGHTS),
    "weights are empty": lambda folder: (folder / WEIGHTS).write_bytes(b""),
    "weights are text": lambda folder: (folder / WEIGHTS).write_text("weights" * 99),
    "weights end in a loop": lambda folder: _link_to_itself(folder / WEIGHTS),
    "config ends in a loop": lambda folder: _link_to_itself(folder / "config.json"),
    "config is a folder": lambda folder: _folder_instead(folder / "config.json"),
    "config is binary": lambda folder: (folder / "config.json").write_bytes(bytes(range(256))),
    "config has a huge number": lambda folder: (folder / "config.json").write_text(
        '{"model_type": "gpt2", "n_layer": 1' + "0" * 5000 + "}"
    ),
    "config has NaN": lambda folder: (folder / "config.json").write_text('{"model_type": "gpt2", "n_layer": NaN}'),
    "config has infinity": lambda folder: change_json(folder / "config.json", layer_norm_epsilon=float("inf")),
    "config is elsewhere": lambda folder: change_json(folder / "config.json", configuration_files=["config.4.json"]),
    "model type is a list": lambda folder: change_json(folder / "config.json", model_type=["gpt2"]),
    "model type is a path": lambda folder: change_json(folder / "config.json", model_type="../../gpt2"),
    "layers are a list": lambda folder: change_json(folder / "config.json", n_layer=[3]),
    "no layers": lambda folder: change_json(folder / "config.json", n_layer=0),
    "negative heads": lambda folder: change_json(folder / "config.json", n_head=-4),
    "heads are true": lambda folder: change_json(folder / "config.json", n_head=True),
    "no vocabulary": lambda folder: change_json(folder / "config.json", vocab_size=0),
    "activation is a list": lambda folder: change_json(folder / "config.json", activation_function=["gelu"]),
    "activation is code": lambda folder: change_json(folder / "config.json", activation_function="__import__('os')"),
    "epsilon is text": lambda folder: change_json(folder / "config.json", layer_norm_epsilon="small"),
    "an encoder beside": lambda folder: change_json(folder / "config.json", is_encoder_decoder=True),
    "tokenizer is a list": lambda folder: (folder / "tokenizer.json").write_text("[1]"),
    "tokenizer config is a list": lambda folder: (folder / "tokenizer_config.json").write_text("[1]"),
    "index beside nothing": _index_of_nothing,
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_folder_is_refused_in_one_sentence(model: Path, how: str) -> None:
    HOSTILE[how](model)
    assert str(model) in refused(model)
