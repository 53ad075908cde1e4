"""Byte-level BPE tokenizers from a GGUF file's vocabulary and merges, with the way of splitting text that it names.

Built here and not by transformers, which passes over most names: it then splits text as GPT-2 does, so that digits or
several spaces become other tokens. It also applies merges to words that the vocabulary has whole, and takes special
tokens with letters that are not ASCII for misspelled.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from circuit_assertions.printable import printable

__all__ = ["begins_with_bos", "byte_level_tokenizer"]

_CONTROL, _USER_DEFINED = 3, 4  # types of tokens

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"


def _like_gpt2(*before: Any) -> Any:
    return pre_tokenizers.Sequence([*before, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])


def _split_at(pattern: str) -> Any:
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _falcon() -> Any:
    threes = pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), behavior="isolated")
    parts = [pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return pre_tokenizers.Sequence([*parts, pre_tokenizers.Digits(individual_digits=False), threes])


# By the names that llama.cpp gives to pre-tokenizers, how the tokenizers of these models split a text.
_SPLITS: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(
        ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat", "mellum", "exaone4", "a.x-4.0"), _like_gpt2
    ),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"),
        lambda: _like_gpt2(pre_tokenizers.Digits(individual_digits=True)),
    ),
    **dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "lfm2", "dbrx", "smaug-bpe", "glm4"),
        lambda: _split_at(_WORDS % "{1,3}"),
    ),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"),
        lambda: _split_at(_WORDS % ""),
    ),
    "falcon": _falcon,
    **dict.fromkeys(("bloom", "poro-chat", "gpt3-finnish"), lambda: _split_at(_BLOOM)),
}
_UNMERGED = ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "lfm2", "tekken")
_COMPOSED = ("qwen2", "qwen35")  # their tokenizers compose letters and accents first
# Where the file does not say whether a text begins with BOS, llama.cpp goes by these.
_WITH_BOS = (*_UNMERGED, "chameleon")


def byte_level_tokenizer(metadata: Mapping[str, Any]) -> tuple[Tokenizer, list[str]]:
    """The tokenizer that a file's metadata contain, and a note where the name of its way of splitting is not known."""
    ggml = {key.removeprefix("tokenizer.ggml."): value for key, value in metadata.items()}
    tokens, name = ggml["tokens"], str(ggml.get("pre", ""))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in ggml["merges"]]
    backend = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=name in _UNMERGED))
    if name in _COMPOSED:
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    split = _SPLITS.get(name) or _known_to_transformers(name)
    backend.pre_tokenizer = split() if split is not None else _like_gpt2()
    kinds = ggml.get("token_type", [])
    for wanted, add in ((_CONTROL, backend.add_special_tokens), (_USER_DEFINED, backend.add_tokens)):
        whole = [token for token, kind in zip(tokens, kinds, strict=False) if kind == wanted and token]
        add([AddedToken(token, normalized=False, special=wanted == _CONTROL) for token in whole])
    if split is not None:
        return backend, []
    called = f"{printable(name)[:40]!r}, which is not recognised" if name else "not named in the file"
    note = (
        f"how the tokenizer splits text is {called}: it splits text as GPT-2 does (give the right one with "
        f"--tokenizer=path/)"
    )
    return backend, [note]


def begins_with_bos(metadata: Mapping[str, Any]) -> bool:
    """Whether llama.cpp puts BOS before a text where the file does not say."""
    return metadata.get("tokenizer.ggml.pre") in _WITH_BOS


def _known_to_transformers(name: str) -> Callable[[], Any] | None:
    """What newer versions of transformers know of the rarer names."""
    try:
        module = importlib.import_module("transformers.integrations.gguf.gguf_tokenizer_mapping")
    except ImportError:
        return None
    pattern = getattr(module, "GGUF_PRE_TOKENIZER_SPLITS", {}).get(name)
    return None if pattern is None else lambda: _split_at(pattern)
