"""What a checkpoint folder must not do: run code while it is opened, or be something other than a causal decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.settings import Permissions
from circuit_assertions.checkpoints.sources import read_json
from circuit_assertions.checkpoints.weights import pickle_files, safetensors_files

__all__ = ["inspect_folder", "weight_files"]

_CAUSAL = ("ForCausalLM", "LMHeadModel", "LMHeadCustomModel")


def inspect_folder(folder: Path, permissions: Permissions) -> dict[str, Any]:
    """Check a checkpoint folder without opening its weights, and return its `config.json`.

    Raises:
        CheckpointError: if it ships code, holds pickles alone, or is no causal language model.
    """
    config = read_json(folder / "config.json")
    _refuse_code(folder, config, permissions)
    weight_files(folder, permissions)
    _refuse_other_models(folder, config)
    return config


def weight_files(folder: Path, permissions: Permissions) -> tuple[Path, ...]:
    """The files that hold the weights of a checkpoint or of an adapter.

    Raises:
        CheckpointError: if there are only pickles and they are not permitted, or nothing at all.
    """
    files = safetensors_files(folder)
    if files:
        return files
    pickles = pickle_files(folder)
    if not pickles:
        raise CheckpointError(f"{folder} holds no weights: expected model.safetensors or an index of shards")
    if not permissions.pickle:
        raise CheckpointError(
            f"{pickles[0]} is a pickle, which can run code when it is read: save the model with "
            f"save_pretrained(...), which writes safetensors, or pass --allow-pickle (read with weights_only=True)"
        )
    return pickles


def _refuse_code(folder: Path, config: dict[str, Any], permissions: Permissions) -> None:
    if permissions.remote_code:
        return
    shipped = sorted(file.name for file in folder.glob("*.py"))
    if "auto_map" in config:
        shipped.append("auto_map in config.json")
    if shipped:
        raise CheckpointError(
            f"{folder} ships code ({', '.join(shipped)}), which would run when it is opened: read it, "
            f"then pass --trust-remote-code"
        )


def _refuse_other_models(folder: Path, config: dict[str, Any]) -> None:
    architectures = config.get("architectures") or []
    if not architectures:
        return
    name = str(architectures[0])
    if name.endswith(_CAUSAL) and not config.get("is_encoder_decoder"):
        return
    raise CheckpointError(
        f"{folder} holds a {name}, which is not a causal language model: circuits are audited on decoders "
        f"such as GPT2LMHeadModel or LlamaForCausalLM"
    )
