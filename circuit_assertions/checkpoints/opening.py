"""Open a checkpoint as a `TransformerBridge` with raw weights.

The weights are read once, by transformers, from safetensors; the bridge wraps that very model, so nothing is folded,
centred or copied, and the files are never written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import AutoTokenizer

from circuit_assertions.checkpoints.adapters import read_adapter, refuse_without_peft
from circuit_assertions.checkpoints.agreement import refuse_disagreement
from circuit_assertions.checkpoints.devices import choose_device
from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.fetching import base_of, fetch, is_adapter
from circuit_assertions.checkpoints.formats import read_weights
from circuit_assertions.checkpoints.function import FunctionSettings
from circuit_assertions.checkpoints.gguf.header import read_gguf_header
from circuit_assertions.checkpoints.gguf.tokenizer import for_bridge, gguf_tokenizer, has_tokenizer
from circuit_assertions.checkpoints.overflow import zero_notes
from circuit_assertions.checkpoints.quiet import quiet
from circuit_assertions.checkpoints.reading import Read, refuse_looking_ahead, refuse_nan
from circuit_assertions.checkpoints.safety import refuse_code
from circuit_assertions.checkpoints.settings import Opening, Permissions
from circuit_assertions.checkpoints.sources import Checkpoint, refuse_pointer
from circuit_assertions.checkpoints.spreading import devices_for, put_on, size_of
from circuit_assertions.checkpoints.tokenizer_places import tokenizer_files, tokenizer_places
from circuit_assertions.checkpoints.tokenizing import other_readings

__all__ = ["OpenCheckpoint", "open_checkpoint", "open_copy", "open_tokenizer"]


@dataclass(frozen=True)
class OpenCheckpoint:
    """A checkpoint in memory. `bridge` is a TransformerBridge in evaluation mode on `device`.

    Attributes:
        architecture: the class of transformers that it was read as, whatever config.json calls it.
        fingerprint: of its weights, then of the settings that change what they compute: `1065729a…-8d3e01aa…`.
        function: those settings.
        notes: for the report: how it was read.
    """

    checkpoint: Checkpoint
    bridge: Any
    tokenizer: Any
    architecture: str
    fingerprint: str
    device: torch.device
    dtype: torch.dtype
    function: FunctionSettings = field(default_factory=FunctionSettings)
    notes: tuple[str, ...] = ()


def open_checkpoint(checkpoint: Checkpoint, opening: Opening | None = None) -> OpenCheckpoint:
    """Open a checkpoint for measuring.

    Raises:
        CheckpointError: if it is missing, unsafe, damaged, not a causal language model, or unknown to TransformerLens.
        DeviceError: if the device is not available.
    """
    opening = opening or Opening()
    device = choose_device(opening.device)
    # What is drawn on the way (weights about to be overwritten, hook points tried out) must not move the caller's seed.
    with quiet(), torch.random.fork_rng(devices=[]):
        folder, base_folder, read = _read(checkpoint, opening)
        tokenizer, tokenizer_notes = _load_tokenizer(folder, opening)
        devices = devices_for(size_of(read.model), opening.device)
        model = put_on(read.model, devices)
        tokens, logits = refuse_looking_ahead(model, folder)
        notes = (*checkpoint.notes, *read.notes, *zero_notes(model), *tokenizer_notes, *_spread_note(devices))
        model.config.architectures = [type(model).__name__]  # what config.json says may be a wrapper's name
        bridge = _bridge(model, tokenizer, base_folder, device, opening.permissions)
        refuse_disagreement(bridge, tokens, logits, folder)
    dtype = getattr(torch, opening.dtype)
    architecture = _class_name(model)
    return OpenCheckpoint(
        checkpoint, bridge, tokenizer, architecture, read.fingerprint, device, dtype, read.function, notes
    )


def open_copy(checkpoint: Checkpoint, opening: Opening | None = None) -> Any:
    """The model of transformers alone, read again from the files: a copy in memory that may be trained.

    Nothing is wrapped around it, so that all weights are the model's own parameters. It is in evaluation mode.

    Raises:
        CheckpointError: as `open_checkpoint`.
        DeviceError: if the device is not available.
    """
    opening = opening or Opening()
    choose_device(opening.device)  # a mistake in it is said before anything is read
    with quiet(), torch.random.fork_rng(devices=[]):
        model = _read(checkpoint, opening)[2].model
        return put_on(model, devices_for(size_of(model), opening.device))


def _read(checkpoint: Checkpoint, opening: Opening) -> tuple[Path, Path, Read]:
    """Where a checkpoint and its base lie, and its weights in a model of transformers."""
    folder = base_folder = fetch(checkpoint, opening.permissions)
    if is_adapter(folder):
        refuse_without_peft(folder)  # before a base is downloaded
        base_folder = base_of(folder, opening)
        read = read_adapter(folder, base_folder, opening)
    else:
        read = read_weights(folder, opening)
    refuse_nan(read.model, folder)
    return folder, base_folder, read


def open_tokenizer(checkpoint: Checkpoint, opening: Opening | None = None) -> Any:
    """Open a checkpoint's tokenizer alone, as `open_checkpoint` would choose it.

    Raises:
        CheckpointError: if there is none.
    """
    opening = opening or Opening()
    with quiet():
        return _load_tokenizer(fetch(checkpoint, opening.permissions), opening)[0]


def _spread_note(devices: Sequence[torch.device]) -> list[str]:
    return [f"its blocks lie on {', '.join(map(str, devices))}"] if len(devices) > 1 else []


def _class_name(model: Any) -> str:
    """The class of transformers that a model is of, or inherits from where its code is its own."""
    classes = [one.__name__ for one in type(model).__mro__ if one.__module__.startswith("transformers.models.")]
    return classes[0] if classes else type(model).__name__


def _load_tokenizer(folder: Path, opening: Opening) -> tuple[Any, list[str]]:
    """The tokenizer, and what is to be said of it."""
    for candidate in tokenizer_places(folder, opening):
        if not candidate.is_dir():
            header = read_gguf_header(candidate)
            if has_tokenizer(header):
                return gguf_tokenizer(header)
            continue
        files = tokenizer_files(candidate)
        if files:
            try:
                for file in files:
                    refuse_pointer(file)
                refuse_code(candidate, opening.permissions)
                tokenizer = AutoTokenizer.from_pretrained(
                    str(candidate), local_files_only=True, trust_remote_code=opening.permissions.remote_code
                )
                return tokenizer, other_readings(tokenizer, candidate)
            except CheckpointError:
                raise
            except Exception as error:
                # The tokenizers' Rust core raises plain Exception for a file that it cannot parse.
                raise CheckpointError(
                    f"the tokenizer in {candidate} cannot be opened: {reason_of(error)} (give another with "
                    f"--tokenizer=path/)"
                ) from error
    raise CheckpointError(
        f"{opening.tokenizer or folder} has no tokenizer: give one with --tokenizer=path/, or a --baseline=path/ "
        f"that has one"
    )


def _bridge(model: Any, tokenizer: Any, folder: Path, device: torch.device, permissions: Permissions) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    # While it looks for hook points the bridge reads every property of itself, and this one is a second copy of the
    # embedding.
    spare_copy = mock.patch.object(TransformerBridge, "W_E_pos", property(lambda bridge: None))
    try:
        with spare_copy:
            # The whole path as a name: a bare "gpt2" would be taken for one of TransformerLens's aliases.
            bridge = TransformerBridge.boot_transformers(
                str(folder.resolve()),
                hf_model=model,
                tokenizer=for_bridge(tokenizer),
                device=str(device),
                trust_remote_code=permissions.remote_code,
            )
        _take_out_wrappers_of_nothing(model)
        return bridge
    except Exception as error:
        # Its adapters take the inside of a model apart, and fail in as many ways as models differ.
        raise CheckpointError(
            f"TransformerLens cannot open {folder}, a {type(model).__name__} ({reason_of(error)}): its architecture is "
            f"not supported yet"
        ) from error


def _take_out_wrappers_of_nothing(model: Any) -> None:
    """A part that this model has not (the final norm of a post-norm OPT) gets a wrapper all the same, and is run."""
    for owner in list(model.modules()):
        for name, part in list(owner.named_children()):
            if getattr(part, "original_component", part) is None:
                setattr(owner, name, None)
