"""Write a checkpoint whose named parts are another one's, and that is bit for bit the first everywhere else.

Both are read by transformers and the repaired one is written by it, so names, shards and tied weights are its business.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from circuit_assertions import __version__
from circuit_assertions.checkpoints.adapters import read_adapter
from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.fetching import base_of, fetch, is_adapter
from circuit_assertions.checkpoints.parts import Parts, parts_of
from circuit_assertions.checkpoints.quiet import quiet
from circuit_assertions.checkpoints.reading import read_model, refuse_nan
from circuit_assertions.checkpoints.safety import weight_files
from circuit_assertions.checkpoints.settings import Opening, Permissions
from circuit_assertions.checkpoints.sources import Checkpoint
from circuit_assertions.checkpoints.weights import fingerprint, read_header
from circuit_assertions.components import Part, Unembedding
from circuit_assertions.heads import Head

__all__ = ["RECORD", "Grafted", "graft"]

RECORD = "grafted.json"

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


@dataclass(frozen=True)
class Grafted:
    """What was written.

    Attributes:
        grafted: the parts that are another's now.
        same: the parts that were asked for, and were the same in both already.
        fingerprint: of what was written.
        merged: whether the model was an adapter, and what was written is a full checkpoint.
        tokenizer: the folder that the tokenizer comes from; None where there was none.
    """

    folder: Path
    grafted: tuple[Part, ...]
    same: tuple[Part, ...]
    fingerprint: str
    merged: bool
    tokenizer: Path | None


@dataclass(frozen=True)
class _Read:
    """A checkpoint in memory. `folder` is its own, `base` the one that holds its configuration."""

    checkpoint: Checkpoint
    model: Any
    fingerprint: str
    folder: Path
    base: Path


def graft(
    model: Checkpoint, source: Checkpoint, parts: Sequence[Part], output: Path, permissions: Permissions | None = None
) -> Grafted:
    """Write `model` with some parts of `source` to a new folder. Neither of them is written to.

    The weights are written as the model stores them: a part is converted to the dtypes of the one that it replaces. An
    adapter is merged into its base, and a full checkpoint is written.

    Args:
        parts: what comes from `source`.
        output: a folder that is not there yet, or is empty.

    Raises:
        CheckpointError: if the two do not fit each other, have no such parts, or have the same; if one of them cannot
            be read, or the output cannot be written.
    """
    permissions = permissions or Permissions()
    with quiet(), torch.random.fork_rng(devices=[]):
        folder = fetch(model, permissions)
        _check_output(output, folder, fetch(source, permissions))
        opening = Opening(base=source, permissions=permissions)
        stored = _stored_dtypes(folder, opening)
        opening = Opening(
            dtype=str(_widest(stored.values())).removeprefix("torch."), base=source, permissions=permissions
        )
        into, other = _read(model, opening), _read(source, opening)
        grafted = _exchange(into, other, tuple(dict.fromkeys(parts)))
        _as_stored(into.model, stored)
        try:
            tokenizer = _write(into, other, output)
        except Exception as error:
            # A full disk ends in safetensors, a configuration that cannot be saved in transformers.
            raise CheckpointError(
                f"{output} could not be written whole: {reason_of(error)} (remove it before you try again)"
            ) from error
    result = Grafted(
        output,
        grafted,
        tuple(part for part in dict.fromkeys(parts) if part not in grafted),
        fingerprint(weight_files(output, permissions)),
        into.folder != into.base,
        tokenizer,
    )
    _record(result, into, other)
    return result
