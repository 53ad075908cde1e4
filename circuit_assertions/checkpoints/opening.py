"""Open a checkpoint as a `TransformerBridge` with raw weights.

The weights are read once, by transformers, from safetensors; the bridge wraps that very model, so nothing is folded,
centred or copied, and the files are never written to.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from circuit_assertions.checkpoints.devices import choose_device
from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.safety import inspect_folder, weight_files
from circuit_assertions.checkpoints.settings import Opening
from circuit_assertions.checkpoints.sources import Checkpoint, find_checkpoints, read_json
from circuit_assertions.checkpoints.weights import fingerprint

__all__ = ["OpenCheckpoint", "open_checkpoint", "open_tokenizer"]

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_PIECE = 1 << 20  # elements looked at together for NaN: bounds the extra memory


@dataclass(frozen=True)
class OpenCheckpoint:
    """A checkpoint in memory. `bridge` is a TransformerBridge in evaluation mode on `device`."""

    checkpoint: Checkpoint
    bridge: Any
    tokenizer: Any
    architecture: str
    fingerprint: str
    device: torch.device
    dtype: torch.dtype


def open_checkpoint(checkpoint: Checkpoint, opening: Opening | None = None) -> OpenCheckpoint:
    """Open a checkpoint for measuring.

    Raises:
        CheckpointError: if it is missing, unsafe, damaged, not a causal language model, or unknown to TransformerLens.
        DeviceError: if the device is not there.
    """
    opening = opening or Opening()
    device = choose_device(opening.device)
    with _quiet():
        folder = _fetch(checkpoint)
        if checkpoint.adapter:
            model, base_folder, print_of_weights = _load_adapter(folder, opening)
        else:
            model, print_of_weights = _load(folder, opening)
            base_folder = folder
        _refuse_nan(model, folder)
        tokenizer = _load_tokenizer((folder, base_folder), opening)
        bridge = _bridge(model.to(device).eval(), tokenizer, base_folder, device)
    architecture = str((model.config.architectures or [type(model).__name__])[0])
    dtype = getattr(torch, opening.dtype)
    return OpenCheckpoint(checkpoint, bridge, tokenizer, architecture, print_of_weights, device, dtype)


def open_tokenizer(checkpoint: Checkpoint, opening: Opening | None = None) -> Any:
    """Open a checkpoint's tokenizer alone, as `open_checkpoint` would choose it.

    Raises:
        CheckpointError: if there is none.
    """
    opening = opening or Opening()
    with _quiet():
        folder = _fetch(checkpoint)
        return _load_tokenizer((folder, _base_folder(folder, opening) if checkpoint.adapter else folder), opening)


def _fetch(checkpoint: Checkpoint) -> Path:
    if checkpoint.folder is not None:
        return checkpoint.folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.bin", "*.py"]
    try:
        fetched = snapshot_download(checkpoint.hub_id or "", revision=checkpoint.revision, allow_patterns=wanted)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{checkpoint.given} is no folder here, and the model hub did not give it: {reason} "
            f"(a local checkpoint: --model=path/to/folder/)"
        ) from error
    return Path(fetched)


def _load(folder: Path, opening: Opening) -> tuple[Any, str]:
    inspect_folder(folder, opening.permissions)
    files = weight_files(folder, opening.permissions)
    print_of_weights = fingerprint(files)  # reads every byte, and so meets a damaged file before torch does
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=getattr(torch, opening.dtype),
            use_safetensors=files[0].suffix == ".safetensors",
            weights_only=True,
            attn_implementation="eager",
            local_files_only=True,
            trust_remote_code=opening.permissions.remote_code,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} cannot be opened: {_first_line(error)}") from error
    missing = sorted(report.get("missing_keys") or [])
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of the tensors that its config.json calls for, {missing[0]} among them: "
            f"the file is not this model's, or was saved in part"
        )
    return model, print_of_weights


def _load_adapter(folder: Path, opening: Opening) -> tuple[Any, Path, str]:
    from peft import PeftModel

    if not opening.permissions.pickle and not (folder / "adapter_model.safetensors").is_file():
        weight_files(folder, opening.permissions)
    base_folder = _base_folder(folder, opening)
    base, print_of_base = _load(base_folder, opening)
    own = fingerprint(weight_files(folder, opening.permissions))
    try:
        with warnings.catch_warnings(action="ignore"):
            merged = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"adapter {folder} does not fit its base {base_folder}: {_first_line(error)}") from error
    return merged, base_folder, hashlib.sha256(f"{print_of_base}+{own}".encode()).hexdigest()


def _base_folder(folder: Path, opening: Opening) -> Path:
    named = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    reason = "its adapter_config.json names no base"
    if named:
        for start in (Path.cwd(), folder):
            try:
                return _fetch(find_checkpoints(str(named), start=start)[-1])
            except CheckpointError as error:
                reason = str(error)
    if opening.base is not None and not opening.base.adapter:
        return _fetch(opening.base)
    raise CheckpointError(f"{folder} is an adapter without a base ({reason}): give the base with --baseline=path/")


def _load_tokenizer(folders: tuple[Path, ...], opening: Opening) -> Any:
    candidates = list(dict.fromkeys(folders))
    if opening.tokenizer:
        chosen = Path(opening.tokenizer).expanduser()
        candidates = [chosen if chosen.is_dir() else _fetch(find_checkpoints(opening.tokenizer)[0])]
    elif opening.base is not None:
        candidates.append(_fetch(opening.base))
    for folder in candidates:
        if any((folder / name).is_file() for name in _TOKENIZER_FILES):
            try:
                return AutoTokenizer.from_pretrained(
                    str(folder), local_files_only=True, trust_remote_code=opening.permissions.remote_code
                )
            except Exception as error:
                # The tokenizers' Rust core raises plain Exception for a file that it cannot parse.
                raise CheckpointError(f"the tokenizer in {folder} cannot be opened: {_first_line(error)}") from error
    raise CheckpointError(
        f"{candidates[0]} has no tokenizer: give one with --tokenizer=path/, or a --baseline=path/ that has one"
    )


def _refuse_nan(model: Any, folder: Path) -> None:
    for name, parameter in model.named_parameters():
        for piece in parameter.detach().flatten().split(_PIECE):
            if not bool(torch.isfinite(piece).all()):
                raise CheckpointError(
                    f"{folder} holds NaN or infinity in {name}: the training run that wrote it has diverged, "
                    f"audit an earlier checkpoint"
                )


def _bridge(model: Any, tokenizer: Any, folder: Path, device: torch.device) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    # While it looks for hook points the bridge reads every property of itself, and this one is a second copy of the
    # embedding. Its set-up also draws random numbers that belong to the caller.
    spare_copy = mock.patch.object(TransformerBridge, "W_E_pos", property(lambda bridge: None))
    try:
        with spare_copy, torch.random.fork_rng(devices=[]):
            # The whole path as a name: a bare "gpt2" would be taken for one of TransformerLens's aliases.
            return TransformerBridge.boot_transformers(
                str(folder.resolve()), hf_model=model, tokenizer=tokenizer, device=str(device)
            )
    except (ValueError, KeyError, NotImplementedError, RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"TransformerLens cannot open {folder} ({_first_line(error)}): its architecture is not supported yet"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep progress bars and advice of the libraries out of the test run's output."""
    loggers = [logging.getLogger(name) for name in ("transformers", "transformer_lens", "root")]
    before = [logger.level for logger in loggers]
    had_bars = transformers_logging.is_progress_bar_enabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
