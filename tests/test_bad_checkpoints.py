"""What is wrong with a checkpoint is said in one clear sentence with a way out, and never runs, guesses or goes on."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import ON_CPU, WEIGHTS, change_header, change_json, change_tensors, copy_of, opened, refused
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from reference_model import word_tokenizer
from said import says
from tiny_models import config_of, random_model, save_tiny
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    BioGptConfig,
    BioGptForCausalLM,
    GPT2ForSequenceClassification,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import (
    Checkpoint,
    DeviceError,
    Opening,
    Permissions,
    find_checkpoints,
)
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.tasks import IoiTask, RepeatedTokensTask, TaskError

VOCABULARY = len(word_tokenizer())
MLP = "transformer.h.1.mlp.c_fc.weight"
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
TRUSTING = Opening(device="cpu", permissions=Permissions(pickle=True))

Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("healthy") / "gpt2")


@pytest.fixture
def model(healthy: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return copy_of(healthy, tmp_path / "model")


def test_the_model_that_is_spoilt_below_opens_as_it_is(model: Path) -> None:
    assert opened(model).architecture == "GPT2LMHeadModel"


# -- weights ------------------------------------------------------------------------------------------------------


def _set(value: float) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[MLP][3, 4] = value

    return change


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_or_infinity_in_one_weight_is_found_and_named(model: Path, value: float) -> None:
    change_tensors(model / WEIGHTS, _set(value))
    assert says(refused(model), model, MLP, "NaN")


def test_missing_tensors_are_never_made_up(model: Path) -> None:
    change_tensors(model / WEIGHTS, lambda tensors: tensors.pop(MLP))
    assert says(refused(model), model, "lacks 1", "config.json", MLP)


def test_tensors_of_the_wrong_shape_are_named_with_both_shapes(model: Path) -> None:
    change_tensors(model / WEIGHTS, lambda tensors: tensors.update({MLP: tensors[MLP][:, :5].contiguous()}))
    assert says(refused(model), model, MLP, (32, 5), "config.json", (32, 128))


def test_layers_that_the_config_forgets_are_not_dropped(model: Path) -> None:
    change_json(model / "config.json", n_layer=1)
    text = refused(model)
    assert says(text, model, "config.json")
    assert "transformer.h.1." in text


def test_layers_that_the_file_lacks_are_not_made_up(model: Path) -> None:
    change_json(model / "config.json", n_layer=5)
    assert says(refused(model), model, "lacks 24")


@pytest.mark.parametrize("kept", [0, 7, 100, 5_000, 100_000])
def test_a_truncated_file_is_named_in_the_error(model: Path, kept: int) -> None:
    raw = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(raw[:kept])
    assert says(refused(model), model / WEIGHTS, "truncated")


@pytest.mark.parametrize(
    ("key", "value"), [("dtype", "F99"), ("dtype", 3), ("shape", [1]), ("shape", "ab"), ("data_offsets", [0])]
)
def test_a_header_that_lies_is_refused(model: Path, key: str, value: object) -> None:
    change_header(model / WEIGHTS, lambda header: header[MLP].update({key: value}))
    assert str(model) in refused(model)


def test_quantized_weights_are_not_taken_for_raw_ones(model: Path) -> None:
    change_json(model / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    assert says(refused(model), model, "quantized")


def test_weights_in_a_file_that_only_the_config_names_are_refused(model: Path) -> None:
    # Its fingerprint would be that of model.safetensors, which nobody reads then.
    (model / "other.safetensors").write_bytes((model / WEIGHTS).read_bytes())
    change_json(model / "config.json", transformers_weights="other.safetensors")
    assert says(refused(model), "transformers_weights", "config.json")


# -- configurations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{nope", "", "[]", "3", "[" * 100_000, "\ufeff{}"])
def test_a_config_that_is_no_json_object_is_named(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    assert str(model / "config.json") in refused(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "frobnicator"},
        {"model_type": None},
        {"n_layer": "three"},
        {"n_head": 0},
        {"n_head": 5},
        {"n_embd": 64},
        {"vocab_size": 10},
        {"activation_function": "frob"},
        {"architectures": "GPT2LMHeadModel"},
        {"architectures": [3]},
    ],
)
def test_a_config_that_does_not_fit_is_refused_in_one_sentence(model: Path, changes: dict[str, Any]) -> None:
    change_json(model / "config.json", **changes)
    assert str(model) in refused(model)


def _bert(folder: Path) -> PreTrainedModel:
    return BertForMaskedLM(BertConfig(vocab_size=VOCABULARY, **SMALL))


def _t5(folder: Path) -> PreTrainedModel:
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(vocab_size=VOCABULARY, **shape))


def _vit(folder: Path) -> PreTrainedModel:
    return ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, **SMALL))


def _classifier(folder: Path) -> PreTrainedModel:
    return GPT2ForSequenceClassification(config_of("gpt2", VOCABULARY))


@pytest.mark.parametrize("make", [_bert, _t5, _vit, _classifier])
def test_a_model_of_another_kind_is_refused_by_its_name(make: Callable[[Path], Any], tmp_path: Path) -> None:
    made = make(tmp_path)
    made.save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    text = refused(tmp_path)
    assert says(text, tmp_path, type(made).__name__, "causal")


@pytest.mark.parametrize("name", ["FrobnicatorLM", "FrobnicatorForCausalLM"])
def test_an_architecture_that_transformers_does_not_know_is_called_unknown_and_not_another_kind(
    model: Path, name: str
) -> None:
    change_json(model / "config.json", architectures=[name], model_type="frobnicator")
    text = refused(model)
    assert re.search("know|recognize", text)
    assert says(text, model, "config.json", "transformers")
    assert not says(text, "causal")


def test_an_encoder_under_a_decoders_name_is_found_to_look_ahead(tmp_path: Path) -> None:
    BertLMHeadModel(BertConfig(vocab_size=VOCABULARY, **SMALL)).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    assert says(refused(tmp_path), tmp_path, "BertLMHeadModel", "later tokens")
    change_json(tmp_path / "config.json", architectures=None)
    assert says(refused(tmp_path), tmp_path, "BertLMHeadModel", "later tokens")


def test_an_architecture_that_transformer_lens_does_not_know_is_named(tmp_path: Path) -> None:
    BioGptForCausalLM(BioGptConfig(vocab_size=VOCABULARY, **SMALL)).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    text = refused(tmp_path)
    assert says(text, tmp_path, "BioGptForCausalLM", "architecture")


# -- code ---------------------------------------------------------------------------------------------------------


class _Trap:
    """Pickled, it is a call that creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_a_trap_never_runs_even_where_pickles_are_allowed(
    model: Path, tmp_path: Path, zipped: bool
) -> None:
    state = dict(random_model(config_of("gpt2", VOCABULARY)).state_dict(), trap=_Trap(tmp_path / "sprung"))
    (model / WEIGHTS).unlink()
    file = model / "pytorch_model.bin"
    torch.save(state, file) if zipped else file.write_bytes(pickle.dumps({"trap": state["trap"]}))
    assert says(refused(model), file, "pickle", "--allow-pickle")
    trusted = refused(model, TRUSTING)
    assert str(model) in trusted
    assert not says(trusted, "--allow-pickle")
    assert not (tmp_path / "sprung").exists()
    if not zipped:
        pickle.loads(file.read_bytes())  # the trap does work
        assert (tmp_path / "sprung").exists()


def test_traps_in_what_a_trainer_leaves_beside_safetensors_are_never_read(model: Path, tmp_path: Path) -> None:
    for name in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth", "pytorch_model.bin"):
        (model / name).write_bytes(pickle.dumps(_Trap(tmp_path / "sprung")))
    for opening in (ON_CPU, TRUSTING):
        assert opened(model, opening).architecture == "GPT2LMHeadModel"
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda folder: change_json(folder / "config.json", auto_map={"AutoModel": "m.M"}), "auto_map in config.json"),
        (
            lambda folder: change_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]}),
            "auto_map in tokenizer_config.json",
        ),
    ],
)
def test_a_folder_that_ships_code_is_refused_unless_it_is_trusted(model: Path, spoil: Spoil, named: str) -> None:
    spoil(model)
    assert says(refused(model), model, named, "--trust-remote-code")


def test_a_trusted_folder_may_hold_code(model: Path) -> None:
    (model / "train.py").write_text("raise SystemExit")
    trusting = Opening(device="cpu", permissions=Permissions(remote_code=True))
    assert opened(model, trusting).architecture == "GPT2LMHeadModel"


# -- adapters -----------------------------------------------------------------------------------------------------


def _adapter(base: Path, folder: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {"target_modules": ["c_attn"], "fan_in_fan_out": True, "init_lora_weights": False}
    config = LoraConfig(r=4, task_type="CAUSAL_LM", **(settings | changes))
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


def _first_adapted(tensors: dict[str, Tensor]) -> str:
    return min(tensors)


def _add_a_layer(tensors: dict[str, Tensor]) -> None:
    tensors[_first_adapted(tensors).replace("h.0", "h.9")] = torch.ones(2)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda file: change_tensors(file, lambda t: t.pop(_first_adapted(t))), ("missing", "keys")),
        (lambda file: change_tensors(file, _add_a_layer), ("1", "h.9")),
        (lambda file: change_tensors(file, lambda t: t[_first_adapted(t)].fill_(torch.nan)), ("NaN",)),
        (lambda file: file.write_bytes(file.read_bytes()[:999]), ("truncated",)),
        (lambda file: file.unlink(), ("no weights",)),
        (lambda file: change_json(file.parent / "adapter_config.json", r=9), (9, "base")),
        (lambda file: change_json(file.parent / "adapter_config.json", peft_type="FROB"), ("FROB",)),
        (lambda file: (file.parent / "adapter_config.json").write_text("{"), ("adapter_config.json", "JSON")),
        (lambda file: change_json(file.parent / "adapter_config.json", base_model_name_or_path="."), ("adapter too",)),
    ],
)
def test_a_damaged_adapter_is_refused_and_never_half_applied(
    healthy: Path, tmp_path: Path, spoil: Spoil, expected: tuple[object, ...]
) -> None:
    folder = _adapter(healthy, tmp_path / "lora")
    spoil(folder / "adapter_model.safetensors")
    assert says(refused(folder), *expected)


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_an_adapter_that_merging_would_change_is_refused(healthy: Path, tmp_path: Path) -> None:
    # The head shares its weights with the embedding: what is added to the one is added to the other.
    folder = _adapter(healthy, tmp_path / "lora", target_modules=["lm_head"], fan_in_fan_out=False)
    assert says(refused(folder), folder, "merged")


def test_a_learned_prompt_is_no_adapter_that_can_be_merged(healthy: Path, tmp_path: Path) -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    get_peft_model(AutoModelForCausalLM.from_pretrained(healthy), config).save_pretrained(tmp_path)
    assert says(refused(tmp_path), tmp_path, "learned prompt")


def test_a_pickled_adapter_is_refused_unless_it_is_allowed(healthy: Path, tmp_path: Path) -> None:
    folder = _adapter(healthy, tmp_path / "lora")
    expected = opened(folder).bridge(torch.tensor([[1, 2, 3]]))
    change_tensors(folder / "adapter_model.safetensors", lambda t: torch.save(t, folder / "adapter_model.bin"))
    (folder / "adapter_model.safetensors").rename(folder / "decoy.safetensors")
    assert says(refused(folder), folder / "adapter_model.bin", "pickle", "--allow-pickle")
    assert torch.equal(opened(folder, TRUSTING).bridge(torch.tensor([[1, 2, 3]])), expected)


# -- tokenizers, tasks and devices --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{", "{}", "[]", ""])
def test_a_corrupt_tokenizer_is_named(model: Path, text: str) -> None:
    (model / "tokenizer.json").write_text(text)
    assert says(refused(model), "tokenizer", model)


def _audited(folder: Path, baseline: Path | None = None) -> tuple[Audit, Checkpoint]:
    base = find_checkpoints(str(baseline))[0] if baseline else None
    return Audit(Opening(device="cpu", base=base), base), find_checkpoints(str(folder))[0]


def _repeated(**changes: int) -> RepeatedTokensTask:
    return RepeatedTokensTask.model_validate({"kind": "repeated-tokens"} | changes)


def test_a_tokenizer_with_other_ids_than_the_baselines_is_refused(healthy: Path, model: Path) -> None:
    text = (model / "tokenizer.json").read_text()
    swapped = text.replace('"Mary"', '"\0"').replace('"John"', '"Mary"').replace('"\0"', '"John"')
    (model / "tokenizer.json").write_text(swapped)
    audit, checkpoint = _audited(model, baseline=healthy)
    with pytest.raises(TaskError, match=r"tokenizer.*\d+.*'(Mary|John)'"):
        audit.prompts(IoiTask.model_validate({"kind": "ioi"}), checkpoint)


def test_prompts_longer_than_the_model_reads_are_refused(tmp_path: Path) -> None:
    audit, checkpoint = _audited(save_tiny(tmp_path, n_positions=16))
    assert audit.prompts(_repeated(length=8), checkpoint).longest == 16
    with pytest.raises(TaskError, match=r"\b18 tokens\b.*\b16\b"):
        audit.prompts(_repeated(length=9), checkpoint)


def test_a_tokenizer_larger_than_the_models_embedding_is_refused(healthy: Path, tmp_path: Path) -> None:
    random_model(config_of("gpt2", 20)).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((healthy / "tokenizer.json").read_bytes())
    audit, checkpoint = _audited(tmp_path)
    with pytest.raises(TaskError, match=r"tokenizer.*--tokenizer\b"):
        audit.prompts(_repeated(), checkpoint)


def test_a_device_that_is_not_there_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="'nonsense'"):
        open_checkpoint(Checkpoint("nowhere", folder=tmp_path / "nowhere"), Opening(device="nonsense"))
