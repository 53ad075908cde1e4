"""A tokenizer that knows every text: the words of the packaged suites are single tokens after a space, digits too."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from circuit_assertions.assertions import load_suite
from circuit_assertions.assertions.packaged import circuits_beside
from circuit_assertions.places import packaged_suites
from circuit_assertions.tasks.templates import TemplatesTask

__all__ = ["packaged_tasks", "suite_tokenizer"]


@functools.cache
def packaged_tasks() -> dict[str, TemplatesTask]:
    """The tasks of kind `templates` in the packaged suites, by suite and name; one of several that ask the same."""
    found: dict[str, TemplatesTask] = {}
    for file in sorted(packaged_suites().glob("*.yaml"), key=lambda file: (file.stem == "breadth", file)):
        for name, task in load_suite(file, circuits_beside(file)).suite.tasks.items():
            if isinstance(task, TemplatesTask) and task.texts not in [one.texts for one in found.values()]:
                found[f"{file.stem}::{name}"] = task
    return found


def _words() -> Iterator[str]:
    for task in packaged_tasks().values():
        for texts in task.texts:
            for case in texts.cases:
                yield from (word for words in case.fill.values() for word in words)
                yield from (word for word, _ in (*case.right, *(case.wrong or ())))
            for words in texts.words.values():
                yield from words


@functools.cache
def _trained() -> str:
    inner = Tokenizer(BPE())
    splits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    inner.pre_tokenizer = pre_tokenizers.Sequence(splits)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=6000, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator([f" {word}" for word in _words() for _ in range(3)], trainer)
    return str(inner.to_str())


def suite_tokenizer() -> Any:
    """The tokenizer, made anew."""
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(_trained()), bos_token="<s>")
