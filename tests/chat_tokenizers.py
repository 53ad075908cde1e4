"""Tokenizers with chat templates, made in memory: one that reads any text, byte by byte, and one of whole words."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from reference_model import word_tokenizer
from tiny_models import save_tiny
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from circuit_assertions.tasks.words import NAMES, OBJECTS, PLACES, TEMPLATES

__all__ = ["CHATML", "LLAMA", "TRIMMED", "WORDS", "bytes_tokenizer", "save_tiny_chat", "words_tokenizer"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# With a BOS of its own, the system message within the user's, and no mark of the assistant's turn.
LLAMA = (
    "{{ bos_token }}[INST] {% for m in messages %}"
    "{% if m['role'] == 'system' %}<<SYS>>\n{{ m['content'] }}\n<</SYS>>\n\n{% else %}{{ m['content'] }}{% endif %}"
    "{% endfor %} [/INST]"
)
TRIMMED = CHATML.replace("m['content']", "m['content']|trim")
# Of words that the tiny models know.
WORDS = "{% for m in messages %}{{ m['content'] }} . {% endfor %}"


@functools.cache
def _trained() -> str:
    inner = Tokenizer(BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<s>", "<|im_start|>", "<|im_end|>"]
    trainer = BpeTrainer(
        vocab_size=4000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = [f" {word}" for word in (*NAMES, *PLACES, *OBJECTS) for _ in range(3)]
    inner.train_from_iterator([*words, *TEMPLATES], trainer)
    return str(inner.to_str())


def bytes_tokenizer(template: str | None, *, adds_bos: bool = False) -> Any:
    """A tokenizer that knows every text, its names single tokens after a space.

    Args:
        adds_bos: whether it begins texts with a BOS by itself.
    """
    inner = Tokenizer.from_str(_trained())
    if adds_bos:
        inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="<|im_end|>")
    made.chat_template = template
    return made


def words_tokenizer(template: str | None = WORDS) -> Any:
    """The tokenizer of the tiny models, with a template."""
    made = word_tokenizer()
    made.chat_template = template
    return made


def save_tiny_chat(folder: Path, template: str | None = WORDS) -> Path:
    """Save a random tiny model with a template."""
    save_tiny(folder, tokenizer=False)
    words_tokenizer(template).save_pretrained(folder)
    return folder
