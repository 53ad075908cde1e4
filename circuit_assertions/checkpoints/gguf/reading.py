"""Read a GGUF file's weights into a model: de-quantized in memory by transformers, every tensor and nothing else."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import gguf
import numpy as np
import torch
import transformers
from torch import Tensor

from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.fitting import refuse_unfit
from circuit_assertions.checkpoints.gguf.header import GgufHeader
from circuit_assertions.checkpoints.gguf.settings import ELSEWHERE, GgufSettings, settings_in
from circuit_assertions.checkpoints.loading import Frame
from circuit_assertions.checkpoints.reading import Read, finished, refuse_misfits
from circuit_assertions.checkpoints.settings import Opening
from circuit_assertions.checkpoints.weights import fingerprint_of
from circuit_assertions.printable import printable

__all__ = ["read_gguf"]

_PLAIN = ("F64", "F32", "F16", "BF16")  # numbers, not blocks
_LONGEST_NAME = 60  # characters of what the author called the model
_UNEMBEDDING = "output.weight"


def read_gguf(header: GgufHeader, opening: Opening) -> Read:
    """Read a file's weights, every tensor and none left out in silence.

    Raises:
        CheckpointError: if its types or its architecture cannot be read, or its tensors are not those of the model that
            its metadata describe.
    """
    file = header.file
    _refuse_unreadable_types(header)
    with _telling(header), _built_once():
        settings = settings_in(header)
        frame = Frame.of_config(settings.config, opening)
        frame.refuse_size(file, header.stored)
        refuse_unfit(file, frame.numbers, opening)
        weights = fingerprint_of({tensor.name: tensor for tensor in header.tensors})
        loaded, report = _load(header, frame, opening)
    refuse_misfits(file, {}, loaded, report)
    _refuse_unread(header, settings, loaded)
    with _telling(header):
        # What is loaded from GGUF counts as quantized, and can be neither saved nor adapted: the same numbers, without
        # a copy, in a model that never heard of it.
        model, _ = frame.load(loaded.state_dict(), opening)
    return finished(file, model, weights, [_described(header, opening), *settings.notes])


def _refuse_unreadable_types(header: GgufHeader) -> None:
    """Refuse what gguf has no formula for, tried on a block of zeros, before gigabytes are read."""
    for tensor in header.tensors:
        kind = gguf.GGMLQuantizationType[tensor.dtype]
        if not _is_readable(kind):
            raise CheckpointError(
                f"{header.file} stores {printable(tensor.name)[:60]} as {tensor.dtype}, which cannot be de-quantized: "
                f"audit the same model in F16, Q8_0, Q4_K or another type of the usual ones"
            )


@functools.cache
def _is_readable(kind: gguf.GGMLQuantizationType) -> bool:
    block, width = gguf.GGML_QUANT_SIZES[kind]
    try:
        return bool(gguf.dequantize(np.zeros((1, width), np.uint8), kind).size == block)
    except NotImplementedError:
        return False


def _load(header: GgufHeader, frame: Frame, opening: Opening) -> tuple[Any, dict[str, Any]]:
    """The model as transformers reads it from this file alone, and what it reports."""
    # Newer versions keep some architectures packed unless told otherwise, older ones have no such choice.
    kind = getattr(transformers, "GgufConfig", None)
    with _without_progress():
        loaded: tuple[Any, dict[str, Any]] = type(frame.model).from_pretrained(
            ELSEWHERE,
            gguf_file=str(header.file.absolute()),
            config=frame.model.config,
            dtype=getattr(torch, opening.dtype),
            attn_implementation="eager",
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused by name
            output_loading_info=True,
            **({} if kind is None else {"quantization_config": kind(dequantize=True)}),
        )
    return loaded


@contextmanager
def _built_once() -> Iterator[None]:
    """Let transformers parse the file once, and not for each question; and so for the names, asked by every module."""
    with (
        mock.patch.object(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)),
        mock.patch.object(gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
    ):
        yield


@contextmanager
def _without_progress() -> Iterator[None]:
    """Keep back the one progress bar that does not ask transformers' settings."""
    from transformers import modeling_gguf_pytorch_utils as module

    shown = getattr(module, "tqdm", None)
    with mock.patch.object(module, "tqdm", functools.partial(shown, disable=True)) if shown else nullcontext():
        yield


def _refuse_unread(header: GgufHeader, settings: GgufSettings, model: Any) -> None:
    """Refuse a file of which transformers read only a part: it passes over tensors that it has no name for.

    Raises:
        CheckpointError: with the names that are likely meant.
    """
    tied = model.get_output_embeddings() is None or (
        model.get_output_embeddings().weight is model.get_input_embeddings().weight
    )
    further = _blocks_behind(header)
    held = [
        tensor
        for tensor in header.tensors
        if tensor.name not in settings.aside
        and not (tied and tensor.name == _UNEMBEDDING)
        and not tensor.name.startswith(further)
    ]
    stored = sum(_size(tensor.shape) for tensor in held)
    read = sum(tensor.numel() for tensor in _kept(model))
    if stored == read:
        return
    unknown = _without_place(header, model)
    named = f" ({', '.join(unknown[:3])}{', ...' if len(unknown) > 3 else ''})" if unknown else ""
    raise CheckpointError(
        f"{header.file} contains {stored} numbers, of which {type(model).__name__} has {read}: transformers does not "
        f"read all of its tensors{named}; audit the model that it was converted from"
    )


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=object))


def _kept(model: Any) -> list[Tensor]:
    """Parameters, and buffers that are stored, each once."""
    stored = model.state_dict(keep_vars=True).values()
    return list({id(tensor): tensor for tensor in stored}.values())


def _blocks_behind(header: GgufHeader) -> tuple[str, ...]:
    """How the tensors of blocks begin that only guess tokens further ahead, and are no part of the model."""
    blocks, further = header.settings.get("block_count"), header.settings.get("nextn_predict_layers", 0)
    if type(blocks) is not int or type(further) is not int:
        return ()
    return tuple(f"blk.{block}." for block in range(max(0, blocks - min(further, 8)), blocks))


def _without_place(header: GgufHeader, model: Any) -> list[str]:
    """Tensors whose names no parameter of the model has in GGUF."""
    architectures = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    number = architectures.get(header.architecture)
    if number is None:
        return []
    names = gguf.get_tensor_name_map(number, model.config.num_hidden_layers)
    known = {names.get_name(name, try_suffixes=(".weight", ".bias")) for name in model.state_dict()}
    return [printable(tensor.name)[:40] for tensor in header.tensors if tensor.name not in known]


def _described(header: GgufHeader, opening: Opening) -> str:
    """What was read, for the report: the file, its name for itself, its types."""
    name = printable(header.name)[:_LONGEST_NAME] or header.architecture
    types = [f"{kind} ({count} tensor{'s' if count > 1 else ''})" for kind, count in header.types.most_common()]
    listed = ", ".join(types[:-1]) + (" and " if len(types) > 1 else "") + types[-1]
    packed = any(kind not in _PLAIN for kind in header.types)
    return f"read from {header.file.name}: {name}, {listed}{f', de-quantized to {opening.dtype}' if packed else ''}"


@contextmanager
def _telling(header: GgufHeader) -> Iterator[None]:
    """Wrong metadata can end anywhere in the library, with any exception."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{header.file}, GGUF of the architecture {printable(header.architecture)[:40]}, cannot be read: "
            f"{printable(reason_of(error))} (if transformers {transformers.__version__} does not read this "
            f"architecture from GGUF, audit the model that it was converted from)"
        ) from error
