"""The tokenizer that a GGUF file contains: built by transformers from the vocabulary, corrected by what the file names.

transformers takes vocabulary, merges and special tokens from the metadata. It does not know every name of a
pre-tokenizer, and splits text as GPT-2 does where it does not, so that digits or several spaces become other tokens;
and it applies merges to words that the vocabulary has whole. Both are corrected here, as the tokenizers of these models
do it on the hub; what is not known is said.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.gguf.header import GgufHeader
from circuit_assertions.checkpoints.gguf.settings import ELSEWHERE
from circuit_assertions.checkpoints.tokenizing import TEXTS
from circuit_assertions.printable import printable

__all__ = ["for_bridge", "gguf_tokenizer", "has_tokenizer"]

_WHOLE = "tokenizer.huggingface.json"  # some writers store the tokenizer as it is
_MODEL, _PRE = "tokenizer.ggml.model", "tokenizer.ggml.pre"
_BYTES, _PIECES = "gpt2", "llama"  # byte-level BPE, SentencePiece
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}

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
# Where the file does not say whether a text begins with BOS, llama.cpp goes by these.
_WITH_BOS = (*_UNMERGED, "chameleon")


def has_tokenizer(header: GgufHeader) -> bool:
    """Whether a file contains a tokenizer at all."""
    return _WHOLE in header.metadata or header.metadata.get(_MODEL, "none") not in ("none", "no_vocab")


def gguf_tokenizer(header: GgufHeader) -> tuple[Any, list[str]]:
    """The tokenizer of a file, and notes for the report. No template that it contains is run.

    Raises:
        CheckpointError: if there is one that cannot be built.
    """
    try:
        special = _special_tokens(header)
        if isinstance(header.metadata.get(_WHOLE), str):
            return _wrapped(Tokenizer.from_str(header.metadata[_WHOLE]), header, special), []
        backend = PreTrainedTokenizerFast.from_pretrained(
            ELSEWHERE, gguf_file=str(header.file.absolute()), local_files_only=True, **special
        ).backend_tokenizer
        notes = _split_as_named(backend, header)
        _begin_as_stated(backend, header, special)
        tokenizer = _wrapped(backend, header, special)
        return tokenizer, [*notes, *_lost_texts(tokenizer)]
    except Exception as error:
        # The tokenizers' Rust core raises plain Exception for a vocabulary that it cannot read.
        raise CheckpointError(
            f"the tokenizer in {header.file} ({printable(str(header.metadata.get(_MODEL)))[:40]}) cannot be built: "
            f"{printable(reason_of(error))} (give another with --tokenizer=path/)"
        ) from error


def for_bridge(tokenizer: Any) -> Any:
    """A tokenizer as TransformerLens can be given it: one from a GGUF file has no name by which it is opened again.

    TransformerLens does that where a tokenizer does not put BOS first, for a second one that does. The bridge's is
    never asked here.
    """
    if not Path(tokenizer.name_or_path or "").is_file():
        return tokenizer
    lent = copy.copy(tokenizer)
    lent.init_kwargs = tokenizer.init_kwargs | {"add_bos_token": True}
    return lent


def _wrapped(backend: Tokenizer, header: GgufHeader, special: Mapping[str, str]) -> Any:
    """A tokenizer of transformers that knows nothing of the file but its name."""
    template = header.metadata.get("tokenizer.chat_template")
    further = {"chat_template": template} if isinstance(template, str) else {}
    return PreTrainedTokenizerFast(tokenizer_object=backend, name_or_path=str(header.file), **special, **further)


def _special_tokens(header: GgufHeader) -> dict[str, str]:
    """Beginning, end, unknown and padding, where the file names them."""
    tokens = header.metadata.get("tokenizer.ggml.tokens", [])
    ids = {name: header.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in _SPECIAL.items()}
    return {name: tokens[one] for name, one in ids.items() if isinstance(one, int) and 0 <= one < len(tokens)}


def _split_as_named(backend: Any, header: GgufHeader) -> list[str]:
    """Split text before the merges as the file names it; a note where it is not known."""
    if header.metadata.get(_MODEL) == _PIECES and header.metadata.get("tokenizer.ggml.add_space_prefix") is False:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    if header.metadata.get(_MODEL) != _BYTES:
        return []
    name = header.metadata.get(_PRE)
    backend.decoder = decoders.ByteLevel()
    backend.model.ignore_merges = name in _UNMERGED
    if name in _SPLITS:
        backend.pre_tokenizer = _SPLITS[name]()
    elif isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):  # as transformers leaves what it does not know
        called = f"{printable(str(name))[:40]!r}, which is not recognised" if name else "not named in the file"
        return [
            f"how the tokenizer splits text is {called}: it splits text as GPT-2 does (give the right one with "
            f"--tokenizer=path/)"
        ]
    return []


def _begin_as_stated(backend: Tokenizer, header: GgufHeader, special: Mapping[str, str]) -> None:
    """Put BOS before and EOS behind a text where the file says so, or says nothing and llama.cpp does."""
    usual = header.metadata.get(_MODEL) == _PIECES or header.metadata.get(_PRE) in _WITH_BOS
    before = header.metadata.get("tokenizer.ggml.add_bos_token", usual) and "bos_token" in special
    behind = header.metadata.get("tokenizer.ggml.add_eos_token", False) and "eos_token" in special
    first = [special["bos_token"]] if before else []
    last = [special["eos_token"]] if behind else []
    backend.post_processor = processors.TemplateProcessing(
        single=[*first, "$A", *last],
        pair=[*first, "$A", *last, *(f"{one}:1" for one in first), "$B:1", *(f"{one}:1" for one in last)],
        special_tokens=[(one, backend.token_to_id(one)) for one in dict.fromkeys((*first, *last))],
    )


def _lost_texts(tokenizer: Any) -> list[str]:
    """A note where a plain text does not come out of the tokenizer as it went in."""
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        read = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        if read.strip(" ") != text.strip(" "):  # SentencePiece puts a space in front, and takes it off again
            return [
                f"the tokenizer reads {text!r} as {read!r:.80}: compare it with the model's own (--tokenizer=path/)"
            ]
    return []
