"""Write a checkpoint whose named parts are another one's, and that is bit for bit the first everywhere else.

Both are read by transformers and the repaired one is written by it, so names, shards and tied weights are its business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.checkpoints.adapters import read_adapter, refuse_without_peft
from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.fetching import base_of, fetch, is_adapter
from circuit_assertions.checkpoints.formats import read_weights
from circuit_assertions.checkpoints.parts import Parts, parts_of
from circuit_assertions.checkpoints.quiet import quiet
from circuit_assertions.checkpoints.reading import refuse_nan
from circuit_assertions.checkpoints.safety import weight_files
from circuit_assertions.checkpoints.settings import Opening, Permissions
from circuit_assertions.checkpoints.sources import Checkpoint
from circuit_assertions.checkpoints.weights import fingerprint
from circuit_assertions.checkpoints.writing import restore_dtypes, stored_dtypes, widest, write_model
from circuit_assertions.components import Mlp, Part, Unembedding
from circuit_assertions.files import whole_folder, write_whole
from circuit_assertions.heads import Head
from circuit_assertions.shape import Shape

__all__ = ["RECORD", "Grafted", "graft"]

RECORD = "grafted.json"  # the file beside the weights that says what came from where


@dataclass(frozen=True)
class Grafted:
    """What was written.

    Attributes:
        model, source: the checkpoint that was to be fixed, and the one that the parts are from.
        parts: the parts that are those of `source` now.
        same: the parts that were asked for, and were the same in both already.
        fingerprint: of what was written, and `fingerprints` those of `model` and of `source`.
        merged: whether the model was an adapter, and what was written is a full checkpoint.
        dequantized: whether the model, or its base, was a GGUF file, and what was written are its weights in float32.
        tokenizer: the folder or file that the tokenizer comes from; None where there was none.
    """

    folder: Path
    model: Checkpoint
    source: Checkpoint
    parts: tuple[Part, ...]
    same: tuple[Part, ...]
    fingerprint: str
    fingerprints: tuple[str, str]
    merged: bool
    dequantized: bool
    tokenizer: Path | None


@dataclass(frozen=True)
class _Read:
    """A checkpoint in memory. `base` holds its configuration: an adapter's base, else the folder or file itself."""

    checkpoint: Checkpoint
    folder: Path
    base: Path
    model: Any
    fingerprint: str


def graft(
    model: Checkpoint,
    source: Checkpoint,
    parts: Collection[Part],
    output: Path,
    permissions: Permissions | None = None,
    *,
    record: Callable[[Grafted], str],
) -> Grafted:
    """Write `model` with some parts of `source` to a new folder. Neither of them is written to.

    The weights are written in the dtypes that the model stores them in, those of a GGUF file in float32. An adapter is
    merged into its base, and a full checkpoint is written.

    Args:
        parts: what comes from `source`.
        output: a folder that does not exist yet, or is empty.
        record: the text of the file `RECORD`, which is written with the weights.

    Raises:
        CheckpointError: if the two do not fit each other, have no such parts, or have the same; if one of them cannot
            be read, or the output cannot be written.
    """
    permissions = permissions or Permissions()
    with quiet(), torch.random.fork_rng(devices=[]):
        folders = fetch(model, permissions), fetch(source, permissions)
        _check_output(output, [*folders, *filter(None, (model.typed_folder, source.typed_folder))])
        opening = Opening(base=source, permissions=permissions)
        stored = stored_dtypes(folders[0], opening)
        opening = replace(opening, dtype=str(widest(stored.values())).removeprefix("torch."))
        into, other = _read(model, folders[0], opening), _read(source, folders[1], opening)
        grafted = _exchange(into, other, parts)
        restore_dtypes(into.model, stored)
        same = tuple(part for part in parts if part not in grafted)
        try:
            with whole_folder(output) as made:
                tokenizer = write_model(into.model, (into.folder, into.base, other.folder, other.base), made)
                written = fingerprint(weight_files(made, permissions))
                result = Grafted(
                    folder=output,
                    model=model,
                    source=source,
                    parts=grafted,
                    same=same,
                    fingerprint=written,
                    fingerprints=(into.fingerprint, other.fingerprint),
                    merged=is_adapter(into.folder),
                    dequantized=into.base.is_file(),
                    tokenizer=tokenizer,
                )
                write_whole(made / RECORD, record(result))
        except Exception as error:
            # A full disk ends in safetensors, a configuration that cannot be saved in transformers.
            raise CheckpointError(
                f"{output} could not be written: {reason_of(error)} (nothing was written; free some space, or name "
                f"another folder)"
            ) from error
    return result


def _check_output(output: Path, inputs: Sequence[Path]) -> None:
    if output.exists() and not output.is_dir():
        raise CheckpointError(f"{output} is a file: name a new folder")
    if output.is_dir() and any(output.iterdir()):
        raise CheckpointError(f"{output} exists and is not empty: name a new folder")
    for folder in inputs:
        if output.resolve().is_relative_to(folder.resolve()):
            raise CheckpointError(f"{output} lies in {folder}, which is not written to: name a folder elsewhere")
    nearest = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise CheckpointError(f"{output} cannot be written, because {nearest} cannot: name a folder elsewhere")


def _read(checkpoint: Checkpoint, folder: Path, opening: Opening) -> _Read:
    base = folder
    if is_adapter(folder):
        refuse_without_peft(folder)
        base = base_of(folder, opening)
    read = read_weights(folder, opening) if base == folder else read_adapter(folder, base, opening)
    refuse_nan(read.model, folder)
    return _Read(checkpoint, folder, base, read.model, read.weights)


@torch.no_grad()
def _exchange(into: _Read, other: _Read, parts: Collection[Part]) -> tuple[Part, ...]:
    """Copy parts from one model to another, and say which of them were not the same already."""
    ours, theirs = parts_of(into.model), parts_of(other.model)
    _check_shape(into, ours, other, theirs)
    pairs = {part: (_find(into, ours, part), _find(other, theirs, part)) for part in parts}
    for part, (one, two) in pairs.items():
        if [weights.shape for weights in one] != [weights.shape for weights in two]:
            raise CheckpointError(f"{other.checkpoint} does not fit {into.checkpoint}: {part} has other shapes there")
    grafted = []
    for part, (one, two) in pairs.items():
        if not all(torch.equal(own, given) for own, given in zip(one, two, strict=True)):
            grafted.append(part)
            for own, given in zip(one, two, strict=True):
                own.copy_(given)
    if not grafted:
        named = ", ".join(map(str, parts))
        raise CheckpointError(f"{into.checkpoint} and {other.checkpoint} have the same weights in {named}")
    return tuple(grafted)


def _check_shape(into: _Read, ours: Parts, other: _Read, theirs: Parts) -> None:
    shapes = [_shape(read, parts) for read, parts in ((into, ours), (other, theirs))]
    if shapes[0] != shapes[1]:
        raise CheckpointError(
            f"{other.checkpoint} does not fit {into.checkpoint}: it is a {shapes[1]}, and the other is a {shapes[0]}: "
            f"give the checkpoint that it was trained from"
        )


def _shape(read: _Read, parts: Parts) -> Shape:
    config = read.model.config
    return Shape(type(read.model).__name__, parts.layers, parts.heads, config.get_text_config().hidden_size)


def _find(read: _Read, parts: Parts, part: Part) -> list[Tensor]:
    if part in parts.weights:
        return parts.weights[part]
    if isinstance(part, Head) and part.layer in parts.reasons and part.head < parts.heads:
        raise CheckpointError(
            f"{part} of {read.checkpoint} cannot be separated from the other heads: {parts.reasons[part.layer]} "
            f"(MLPs and norms can be grafted)"
        )
    if isinstance(part, Unembedding):
        raise CheckpointError(f"{read.checkpoint} has no UNEMBED of its own: it is tied to the embedding; graft EMBED")
    if isinstance(part, Mlp) and _shape(read, parts).has(part):
        raise CheckpointError(f"{part} of {read.checkpoint} is not a component that can be grafted")
    raise CheckpointError(f"{read.checkpoint} has no {part}: it has {_shape(read, parts).extent}")
