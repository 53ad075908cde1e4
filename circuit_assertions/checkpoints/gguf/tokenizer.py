"""The tokenizer that a GGUF file contains: stored whole, byte-level BPE, or built by transformers from its pieces."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.gguf.byte_level import begins_with_bos, byte_level_tokenizer
from circuit_assertions.checkpoints.gguf.header import GgufHeader
from circuit_assertions.checkpoints.gguf.settings import ELSEWHERE
from circuit_assertions.checkpoints.tokenizing import TEXTS
from circuit_assertions.printable import printable

__all__ = ["for_bridge", "gguf_tokenizer", "has_tokenizer"]

_WHOLE = "tokenizer.huggingface.json"  # some writers store the tokenizer as it is
_MODEL = "tokenizer.ggml.model"
_BYTES, _PIECES = "gpt2", "llama"  # byte-level BPE, SentencePiece
_BUILT = (_PIECES, "gemma4", "t5")  # by transformers
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


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
        backend, notes = _built(header, special)
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


def _built(header: GgufHeader, special: Mapping[str, str]) -> tuple[Tokenizer, list[str]]:
    kind = header.metadata.get(_MODEL)
    if kind == _BYTES:
        return byte_level_tokenizer(header.metadata)
    if kind not in _BUILT:
        raise ValueError("tokenizers of this kind are not read from GGUF")
    backend = PreTrainedTokenizerFast.from_pretrained(
        ELSEWHERE, gguf_file=str(header.file.absolute()), local_files_only=True, **special
    ).backend_tokenizer
    if kind == _PIECES and header.metadata.get("tokenizer.ggml.add_space_prefix") is False:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    return backend, []


def _begin_as_stated(backend: Tokenizer, header: GgufHeader, special: Mapping[str, str]) -> None:
    """Put BOS before and EOS behind a text where the file says so, or says nothing and llama.cpp does."""
    usual = header.metadata.get(_MODEL) == _PIECES or begins_with_bos(header.metadata)
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
