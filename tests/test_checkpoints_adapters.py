"""Adapters: the base that is meant, added tokens, sub-folders, settings, and configurations without end."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import change_json, change_tensors, copy_of, opened, refused
from peft import LoraConfig, PeftModel, get_peft_model
from reference_model import word_tokenizer
from safetensors.torch import load_file, save_file
from said import says
from tiny_models import save_tiny
from torch import Tensor
from transformers import AutoModelForCausalLM

from circuit_assertions.checkpoints import Checkpoint, CheckpointError, Opening, find_checkpoints, patterns

VOCABULARY = len(word_tokenizer())
TOKENS = torch.tensor([[5, 9, 17, 9, 5]])
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("base") / "gpt2")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama, whose unembedding is its own. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("base") / "llama", "llama")


def _adapter(base: Path, folder: Path, *, tokens: int = 0, save: bool | str = "auto", **changes: Any) -> Path:
    """A LoRA adapter with random weights, trained with so many added tokens."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    if tokens:
        model.resize_token_embeddings(VOCABULARY + tokens, mean_resizing=False)
    turned = model.config.model_type == "gpt2"
    attention = ["c_attn"] if turned else ["q_proj", "v_proj"]
    settings = {"target_modules": attention, "init_lora_weights": False, "fan_in_fan_out": turned}
    config = LoraConfig(task_type="CAUSAL_LM", **(settings | changes))
    get_peft_model(model, config).save_pretrained(folder, save_embedding_layers=save)
    change_json(folder / "adapter_config.json", base_model_name_or_path=str(base))
    return folder


def _lent(base: Path) -> Opening:
    return Opening(device="cpu", base=Checkpoint("the-baseline", folder=base))


_refused = partial(refused, most=900)  # both folders are named

# -- the base -----------------------------------------------------------------------------------------------------


def _by_config(folder: Path) -> None:
    change_json(folder / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})


def _by_tensors(folder: Path) -> None:
    change_tensors(folder / "model.safetensors", lambda held: held.update({"a.absmax": torch.ones(3)}))


@pytest.mark.parametrize("quantize", [_by_config, _by_tensors])
def test_a_quantized_base_gives_way_to_the_baseline_and_that_is_told(
    base: Path, tmp_path: Path, quantize: Callable[[Path], None]
) -> None:
    plain = _adapter(base, tmp_path / "plain")
    packed = copy_of(base, tmp_path / "packed")
    quantize(packed)
    folder = copy_of(plain, tmp_path / "qlora")
    change_json(folder / "adapter_config.json", base_model_name_or_path=str(packed))
    text = _refused(folder)
    assert says(text, folder, packed, "quantized", "bitsandbytes", "--baseline=path/")
    source = opened(folder, _lent(base))
    assert source.fingerprint == opened(plain).fingerprint
    (note,) = source.notes
    assert says(note, "the-baseline", packed)


@pytest.mark.parametrize(
    "name", ["unsloth/some-model-bnb-4bit", "org/model-GPTQ", "org/model-AWQ", "org/m-FP8", "gone"]
)
def test_a_base_that_is_not_here_or_quantized_by_its_name_gives_way_too(base: Path, tmp_path: Path, name: str) -> None:
    folder = _adapter(base, tmp_path / "qlora")
    change_json(folder / "adapter_config.json", base_model_name_or_path=name)
    (note,) = opened(folder, _lent(base)).notes
    assert says(note, "the-baseline", name)


def test_a_base_of_full_precision_goes_before_the_baseline(base: Path, llama: Path, tmp_path: Path) -> None:
    source = opened(_adapter(base, tmp_path / "lora"), _lent(llama))
    assert (source.architecture, source.notes) == ("GPT2LMHeadModel", ())


# -- added tokens -------------------------------------------------------------------------------------------------


@torch.no_grad()
def _by_peft(base: Path, folder: Path, tokens: int) -> Tensor:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(VOCABULARY + tokens, mean_resizing=False)
    logits: Tensor = PeftModel.from_pretrained(model, folder).eval()(TOKENS).logits
    return logits


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gpt2", {}),
        ("gpt2", {"modules_to_save": ["wte", "lm_head"]}),
        ("llama", {}),
        ("llama", {"modules_to_save": ["embed_tokens", "lm_head"]}),
    ],
)
def test_an_adapter_with_added_tokens_is_read_as_peft_reads_it(
    kind: str, changes: dict[str, Any], base: Path, llama: Path, tmp_path: Path
) -> None:
    whole = {"gpt2": base, "llama": llama}[kind]
    folder = _adapter(whole, tmp_path / "lora", tokens=5, save=True, **changes)
    source = opened(folder)
    logits = source.bridge(TOKENS)
    assert logits.shape[-1] == VOCABULARY + 5
    torch.testing.assert_close(logits, _by_peft(whole, folder, 5), atol=1e-4, rtol=0)
    assert any(says(note, f"{VOCABULARY + 5} tokens", VOCABULARY) for note in source.notes)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"target_modules": ["embed_tokens", "q_proj"]}, "embed_tokens"),
        ({"target_modules": ["lm_head", "q_proj"]}, "lm_head"),
    ],
)
def test_added_tokens_whose_rows_are_nowhere_are_named_with_both_shapes(
    changes: dict[str, Any], name: str, llama: Path, tmp_path: Path
) -> None:
    folder = _adapter(llama, tmp_path / "lora", tokens=5, save=False, **changes)
    text = _refused(folder)
    assert name in text
    assert says(text, VOCABULARY + 5, VOCABULARY)


def test_a_misfit_inside_a_block_is_named_with_both_shapes(base: Path, tmp_path: Path) -> None:
    folder = _adapter(base, tmp_path / "lora", r=4)
    change_json(folder / "adapter_config.json", r=6)
    assert says(_refused(folder), folder, "(4, 32) in the adapter", "(6, 32) in the base")


@pytest.mark.parametrize("name", ["v_head.summary.weight", "base_model.model.score.weight", "base_model.model.x"])
def test_a_tensor_of_an_adapter_that_has_no_place_is_named(base: Path, tmp_path: Path, name: str) -> None:
    folder = _adapter(base, tmp_path / "lora")
    change_tensors(folder / WEIGHTS, lambda held: held.update({name: torch.ones(2, 32)}))
    assert says(_refused(folder), folder, 1, name)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: name.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda name: f"module.{name.replace('.h.1.', '.h.1._checkpoint_wrapped_module.')}",
    ],
)
def test_a_wrappers_prefix_in_an_adapter_is_taken_off(base: Path, tmp_path: Path, rename: Callable[[str], str]) -> None:
    folder = _adapter(base, tmp_path / "lora")
    plain = opened(folder)
    before = {rename(name): one for name, one in load_file(folder / WEIGHTS).items()}
    save_file(before, folder / WEIGHTS)
    source = opened(folder)
    assert source.fingerprint == plain.fingerprint
    assert torch.equal(source.bridge(TOKENS), plain.bridge(TOKENS))
    wrappers = {"_orig_mod.", "module.", "_checkpoint_wrapped_module."}
    taken = {wrapper for wrapper in wrappers if f"`{wrapper}`" in source.notes[0]}
    assert taken == {wrapper for wrapper in wrappers if any(f".{wrapper}" in f".{name}" for name in before)}


# -- settings and sub-folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"lora_alpha": 32}, {"use_rslora": True}, {"alpha_pattern": {"h.1.attn.c_attn": 64}}]
)
def test_the_fingerprint_covers_an_adapters_settings(base: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = _adapter(base, tmp_path / "lora")
    plain = opened(folder)
    change_json(folder / "adapter_config.json", **changes)
    source = opened(folder)
    assert source.fingerprint != plain.fingerprint
    assert not torch.allclose(source.bridge(TOKENS), plain.bridge(TOKENS))
    (told,) = plain.function.differences(source.function)
    assert told.startswith(f"adapter_config.json differs in {next(iter(changes))}")
    assert plain.function.differences(opened(base).function) == []


@pytest.mark.parametrize("changes", [{"lora_dropout": 0.3}, {"inference_mode": False}, {"revision": "main"}])
def test_it_covers_nothing_that_training_alone_reads(base: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = _adapter(base, tmp_path / "lora")
    plain = opened(folder).fingerprint
    change_json(folder / "adapter_config.json", **changes)
    assert opened(folder).fingerprint == plain


@pytest.mark.parametrize("inside", [["default"], ["default", "policy"], ["adapters/first", "adapters/second"]])
def test_adapters_in_folders_of_their_own_are_named(base: Path, tmp_path: Path, inside: list[str]) -> None:
    for name in inside:
        _adapter(base, tmp_path / "lora" / name)
    with pytest.raises(CheckpointError) as caught:
        find_checkpoints(str(tmp_path / "lora"))
    assert says(caught.value, tmp_path / "lora", *(tmp_path / "lora" / name for name in inside))


# -- without end --------------------------------------------------------------------------------------------------

SLOW = "(([a-z._0-9]+)+)+!"


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": SLOW},
        {"target_modules": r"(.*)*(.*)*(.*)*(.*)*(.*)*(.*)*(.*)*(.*)*!"},
        {"exclude_modules": SLOW},
        {"rank_pattern": {SLOW: 4}},
        {"alpha_pattern": {SLOW: 4}},
        {"modules_to_save": [SLOW]},
        {"layers_pattern": SLOW, "layers_to_transform": [0]},
        {"target_modules": "a" * 20_000},
        {"target_modules": [f"c_attn{number}" for number in range(1_000_000)]},
        {"rank_pattern": {f"c_attn{number}": 4 for number in range(100_000)}},
        {"r": 10**9},
        {"rank_pattern": {"c_attn": 10**9}},
        {"r": 10**400},
        {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 10**10},
    ],
)
def test_a_configuration_that_would_not_end_is_refused_in_time(
    base: Path, tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "_SECONDS", 0.5)
    folder = _adapter(base, tmp_path / "lora")
    change_json(folder / "adapter_config.json", **changes)
    assert "adapter_config.json" in _refused(folder)


@pytest.mark.parametrize(
    "pattern",
    [
        r".*\.c_attn",
        r"(?:.*?(?:h|layers).*?(?:attn|self_attn|mlp).*?(?:c_attn|q_proj|k_proj).*?)|(?:\bfoo\.layers\.[\d]{1,}\.x)",
        r".*\.h\.\d+\.attn\.c_attn$",
    ],
)
def test_ordinary_patterns_are_read(base: Path, tmp_path: Path, pattern: str) -> None:
    folder = _adapter(base, tmp_path / "lora")
    expected = opened(folder)
    change_json(folder / "adapter_config.json", target_modules=pattern)
    assert torch.equal(opened(folder).bridge(TOKENS), expected.bridge(TOKENS))


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": "(("},
        {"target_modules": ["nothing_here"]},
        {"target_modules": 3},
        {"r": -1},
        {"r": "four"},
        {"lora_alpha": "NaN"},
        {"peft_type": ["LORA"]},
        {"base_model_name_or_path": ["a"]},
        {"rank_pattern": [1]},
        {"layers_to_transform": {"a": 1}},
    ],
)
def test_a_configuration_of_the_wrong_kind_is_refused_in_one_sentence(
    base: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = _adapter(base, tmp_path / "lora")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    assert "lora" in _refused(folder)
