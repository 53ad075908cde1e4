"""A model on its way into a folder: in the dtypes that its checkpoint stores, with its configuration and tokenizer."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.fetching import base_of, is_adapter
from circuit_assertions.checkpoints.gguf.header import read_gguf_header
from circuit_assertions.checkpoints.gguf.tokenizer import gguf_tokenizer, has_tokenizer
from circuit_assertions.checkpoints.prefixes import plain_name
from circuit_assertions.checkpoints.safety import weight_files
from circuit_assertions.checkpoints.settings import Opening
from circuit_assertions.checkpoints.weights import read_header

__all__ = ["restore_dtypes", "stored_dtypes", "widest", "write_model"]

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_CONFIGS = ("config.json", "generation_config.json")
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
_VOCABULARIES = _TOKENIZER[:6]  # without one of these there is no tokenizer
_EVERY = ""  # instead of a tensor's name: all that are not named


def stored_dtypes(folder: Path, opening: Opening) -> dict[str, torch.dtype]:
    """The dtype of each stored tensor of floating point, an adapter's beside its base's.

    Of a GGUF file one for all: float32, which is what its blocks are de-quantized to.
    """
    if folder.is_file():
        return {_EVERY: torch.float32}
    files = weight_files(folder, opening.permissions, adapter=is_adapter(folder))
    found: dict[str, torch.dtype] = {}
    for file in files:
        if file.suffix == ".safetensors":
            found |= {plain_name(one.name): _DTYPES[one.dtype] for one in read_header(file) if one.dtype in _DTYPES}
        else:
            held = torch.load(file, map_location="meta", weights_only=True)
            found |= {plain_name(name): one.dtype for name, one in held.items() if one.dtype in _DTYPES.values()}
    if is_adapter(folder):
        found |= stored_dtypes(base_of(folder, opening), opening)
    if not found:
        raise CheckpointError(f"{folder} holds no weights in float64, float32, float16 or bfloat16: nothing to graft")
    return found


def widest(dtypes: Collection[torch.dtype]) -> torch.dtype:
    """What every number of all these dtypes can be read into without being rounded."""
    kinds = set(dtypes)
    if len(kinds) == 1:
        return kinds.pop()
    return torch.float64 if torch.float64 in kinds else torch.float32


def restore_dtypes(model: Any, stored: Mapping[str, torch.dtype]) -> None:
    """Back to what the file holds; parameters that it calls otherwise get what most of its tensors have."""
    usual = stored.get(_EVERY) or Counter(stored.values()).most_common(1)[0][0]
    prefix = f"{model.base_model_prefix}."
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(stored.get(name, stored.get(name.removeprefix(prefix), usual)))


def write_model(model: Any, places: Sequence[Path], output: Path) -> Path | None:
    """Write weights, configuration and tokenizer; return the folder or file that the tokenizer comes from.

    Args:
        places: folders and GGUF files that may have a tokenizer, the best first. The second has the configuration.
    """
    described = places[1]
    if hasattr(model, "generation_config"):  # transformers refuses to write some that it has read
        model.generation_config = GenerationConfig()
    model.save_pretrained(output)
    for name in _CONFIGS:
        if (described / name).is_file():
            shutil.copyfile(described / name, output / name)
        elif described.is_dir() or name != "config.json":  # what a GGUF file describes was just written
            (output / name).unlink(missing_ok=True)
    return next((place for place in places if _tokenizer_written(place, output)), None)


def _tokenizer_written(place: Path, output: Path) -> bool:
    """Whether there was one to write."""
    if place.is_file():
        header = read_gguf_header(place)
        with contextlib.suppress(CheckpointError):  # one that cannot be built; the next place may have one that can
            if has_tokenizer(header):
                gguf_tokenizer(header)[0].save_pretrained(output)
                return True
    folder = place if place.is_dir() else place.parent
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        return False
    for name in _TOKENIZER:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, output / name)
    return True
