"""Open a checkpoint as a `TransformerBridge` with raw weights.

The weights are read once, by transformers, from safetensors; the bridge wraps that very model, so nothing is folded,
centred or copied, and the files are never written to.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
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
from circuit_assertions.checkpoints.safety import inspect_folder, refuse_code, weight_files
from circuit_assertions.checkpoints.settings import Opening, Permissions
from circuit_assertions.checkpoints.sources import (
    Checkpoint,
    find_checkpoints,
    local_path,
    read_json,
    similar_folder,
)
from circuit_assertions.checkpoints.weights import fingerprint, read_header

__all__ = ["OpenCheckpoint", "open_checkpoint", "open_tokenizer"]

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_PIECE = 1 << 20  # elements looked at together for NaN: bounds the extra memory
_MOST_WORDS = 240  # characters of a library's own message that are passed on
_IN_A_BLOCK = re.compile(r"\.\d+\.")  # tensors of numbered blocks, `transformer.h.3.`: never an optional extra
_SAME = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 2e-2}  # of the largest logit


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
    # What is drawn on the way (weights about to be overwritten, hook points tried out) must not move the caller's seed.
    with _quiet(), torch.random.fork_rng(devices=[]):
        folder = base_folder = _fetch(checkpoint, opening.permissions)
        if _is_adapter(folder):
            base_folder = _base_folder(folder, opening)
            model, print_of_weights = _load_adapter(folder, base_folder, opening)
        else:
            model, print_of_weights = _load(folder, opening)
        _refuse_nan(model, folder)
        tokenizer = _load_tokenizer(folder, opening)
        model = model.to(device).eval()
        _refuse_looking_ahead(model, folder)
        bridge = _bridge(model, tokenizer, base_folder, device, opening.permissions)
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
        return _load_tokenizer(_fetch(checkpoint, opening.permissions), opening)


def _fetch(checkpoint: Checkpoint, permissions: Permissions) -> Path:
    if checkpoint.folder is not None:
        return checkpoint.folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.py", *(["*.bin"] if permissions.pickle else [])]
    try:
        fetched = snapshot_download(checkpoint.hub_id or "", revision=checkpoint.revision, allow_patterns=wanted)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        similar = similar_folder(Path.cwd() / checkpoint.given)
        way_out = f"did you mean {similar.name}/?" if similar else "a local checkpoint: give path/to/folder/"
        raise CheckpointError(
            f"{checkpoint.given} is no folder here, and the model hub did not give it: {_reason(error)} ({way_out})"
        ) from error
    return Path(fetched)


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


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
            ignore_mismatched_sizes=True,  # they are reported, and refused below by name
            output_loading_info=True,
        )
    except Exception as error:
        # A wrong config.json or a damaged file can end anywhere in the library, with any exception.
        raise CheckpointError(
            f"{folder} cannot be opened: {_reason(error)} (check that config.json belongs to these weights "
            f"and that transformers is recent enough, or save the model anew with save_pretrained)"
        ) from error
    _refuse_misfits(folder, report)
    return model, print_of_weights


def _refuse_misfits(folder: Path, report: dict[str, Any]) -> None:
    """Refuse weights that were not read to the last tensor: what is missing would be random numbers."""
    way_out = "the file is not this model's, or was saved in part: save it anew, with its own config.json"
    for name, stored, expected in sorted(report.get("mismatched_keys") or []):
        raise CheckpointError(
            f"{folder} holds {name} of shape {tuple(stored)} where its config.json calls for {tuple(expected)}: "
            f"{way_out}"
        )
    missing = sorted(report.get("missing_keys") or [])
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of the tensors that its config.json calls for, {missing[0]} among them: "
            f"{way_out}"
        )
    spare = sorted(name for name in report.get("unexpected_keys") or [] if _IN_A_BLOCK.search(name))
    if spare:
        raise CheckpointError(
            f"{folder} holds {len(spare)} tensors that its config.json has no place for, {spare[0]} among them: "
            f"{way_out}"
        )


def _load_adapter(folder: Path, base_folder: Path, opening: Opening) -> tuple[Any, str]:
    from peft import PeftModel, get_peft_model_state_dict

    refuse_code(folder, opening.permissions)
    files = weight_files(folder, opening.permissions, adapter=True)
    own_print = fingerprint(files)
    base, print_of_base = _load(base_folder, opening)
    try:
        with warnings.catch_warnings(action="ignore"):
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(base, str(folder), torch_device="cpu").eval()
        if adapted.active_peft_config.is_prompt_learning:
            raise ValueError("it is a learned prompt, which has no weights that could be merged")
        read = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    except Exception as error:
        # What a foreign adapter_config.json asks for can end anywhere in the library, with any exception.
        raise CheckpointError(
            f"adapter {folder} does not fit its base {base_folder}: {_reason(error)} (give the right base "
            f"with --baseline=path/, or save the merged model)"
        ) from error
    stored = [tensor.name for file in files if file.suffix == ".safetensors" for tensor in read_header(file)]
    spare = [name for name in stored if name not in read and _IN_A_BLOCK.search(name)]
    if spare:
        raise CheckpointError(
            f"adapter {folder} does not fit its base {base_folder}, which has no place for {len(spare)} of its "
            f"tensors, {spare[0]} among them: give the right base with --baseline=path/"
        )
    _refuse_nan(adapted, folder)
    return _merge(adapted, folder), hashlib.sha256(f"{print_of_base}+{own_print}".encode()).hexdigest()


def _merge(adapted: Any, folder: Path) -> Any:
    apart = _logits(adapted)
    with warnings.catch_warnings(action="ignore"):
        merged = adapted.merge_and_unload()
    together = _logits(merged)
    if not _are_same(apart, together):
        # An adapter of a head that shares its weights with the embedding, for one: merged, it changes both.
        raise CheckpointError(
            f"adapter {folder} cannot be merged into its base without changing what it computes: "
            f"train it without tied weights (lm_head, embeddings) among its target modules"
        )
    return merged


def _base_folder(folder: Path, opening: Opening) -> Path:
    named = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    reason = "its adapter_config.json names no base"
    if named:
        # A folder goes before a hub id of the same name.
        starts = [start for start in (Path.cwd(), folder) if (start / local_path(str(named))).is_dir()]
        for start in starts or [Path.cwd()]:
            try:
                base = _fetch(find_checkpoints(str(named), start=start)[-1], opening.permissions)
            except CheckpointError as error:
                reason = str(error)
            else:
                if not _is_adapter(base):
                    return base
                reason = f"its base {named} is an adapter too"
    if opening.base is not None:
        base = _fetch(opening.base, opening.permissions)
        if not _is_adapter(base):
            return base
    raise CheckpointError(f"{folder} is an adapter without a base ({reason}): give the base with --baseline=path/")


def _load_tokenizer(folder: Path, opening: Opening) -> Any:
    for candidate in _tokenizer_folders(folder, opening):
        if any((candidate / name).is_file() for name in _TOKENIZER_FILES):
            try:
                return AutoTokenizer.from_pretrained(
                    str(candidate), local_files_only=True, trust_remote_code=opening.permissions.remote_code
                )
            except Exception as error:
                # The tokenizers' Rust core raises plain Exception for a file that it cannot parse.
                raise CheckpointError(
                    f"the tokenizer in {candidate} cannot be opened: {_reason(error)} (give another with "
                    f"--tokenizer=path/)"
                ) from error
    raise CheckpointError(
        f"{opening.tokenizer or folder} has no tokenizer: give one with --tokenizer=path/, or a --baseline=path/ "
        f"that has one"
    )


def _tokenizer_folders(folder: Path, opening: Opening) -> Iterator[Path]:
    """Where a tokenizer may be, the best place first. Lazily: what is not needed is not fetched."""
    if opening.tokenizer:
        chosen = local_path(opening.tokenizer)
        yield chosen if chosen.is_dir() else _fetch(find_checkpoints(opening.tokenizer)[0], opening.permissions)
        return
    yield folder
    if _is_adapter(folder):
        yield _base_folder(folder, opening)
    if opening.base is not None:
        base = _fetch(opening.base, opening.permissions)
        yield base
        if _is_adapter(base):
            yield _base_folder(base, opening)


def _refuse_nan(model: Any, folder: Path) -> None:
    for name, parameter in model.named_parameters():
        for piece in parameter.detach().flatten().split(_PIECE):
            if not bool(torch.isfinite(piece).all()):
                raise CheckpointError(
                    f"{folder} holds NaN or infinity in {name}: the training run that wrote it has diverged, "
                    f"audit an earlier checkpoint"
                )


def _refuse_looking_ahead(model: Any, folder: Path) -> None:
    """Refuse a model whose prediction depends on tokens that come after: an encoder, whatever its class is called."""
    try:
        first, second = _logits(model)
    except Exception as error:
        # The first time that the model runs: what config.json got wrong about its inside shows here.
        raise CheckpointError(
            f"{folder} can be opened, but does not run: {_reason(error)} (check that config.json belongs to it)"
        ) from error
    if not _are_same(first[:-1], second[:-1]):
        raise CheckpointError(
            f"{folder} holds a {type(model).__name__} that looks ahead, and so is not a causal language model: "
            f"circuits are audited on decoders such as GPT2LMHeadModel or LlamaForCausalLM"
        )


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    """Logits for two short prompts that differ in their last token: [2, positions, d_vocab]."""
    highest = model.get_input_embeddings().weight.shape[0] - 1
    tokens = torch.tensor([[highest, 0, 1, highest // 2, 0], [highest, 0, 1, highest // 2, highest]])
    logits: torch.Tensor = model(tokens.to(model.device), use_cache=False).logits
    return logits


def _are_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    scale = float(one.abs().max()) or 1.0
    return float((one - other).abs().max()) <= _SAME[one.dtype] * scale


def _bridge(model: Any, tokenizer: Any, folder: Path, device: torch.device, permissions: Permissions) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    # While it looks for hook points the bridge reads every property of itself, and this one is a second copy of the
    # embedding.
    spare_copy = mock.patch.object(TransformerBridge, "W_E_pos", property(lambda bridge: None))
    try:
        with spare_copy:
            # The whole path as a name: a bare "gpt2" would be taken for one of TransformerLens's aliases.
            return TransformerBridge.boot_transformers(
                str(folder.resolve()),
                hf_model=model,
                tokenizer=tokenizer,
                device=str(device),
                trust_remote_code=permissions.remote_code,
            )
    except Exception as error:
        # Its adapters take the inside of a model apart, and fail in as many ways as models differ.
        raise CheckpointError(
            f"TransformerLens cannot open {folder}, a {type(model).__name__} ({_reason(error)}): its architecture is "
            f"not supported yet"
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


def _reason(error: BaseException) -> str:
    """The first sentence of a library's message, which may go on for pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    sentence = lines[0].split(". ")[0].rstrip(".:") if lines else ""
    if not sentence or isinstance(error, KeyError):  # of a KeyError the message is the bare key
        sentence = f"{type(error).__name__} {sentence}".rstrip()
    return sentence if len(sentence) <= _MOST_WORDS else f"{sentence[:_MOST_WORDS]}..."
