"""What a checkpoint folder must not do: run code while it is opened, or be something other than a causal decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.settings import Permissions
from circuit_assertions.checkpoints.sources import read_json, refuse_pointer
from circuit_assertions.checkpoints.weights import pickle_files, safetensors_files

__all__ = ["inspect_folder", "refuse_code", "weight_files"]

_CAUSAL = ("ForCausalLM", "LMHeadModel", "LMHeadCustomModel")


def inspect_folder(folder: Path, permissions: Permissions) -> dict[str, Any]:
    """Check a checkpoint folder without opening its weights, and return its `config.json`.

    Raises:
        CheckpointError: if it ships code, holds pickles alone, or is no causal language model.
    """
    config = read_json(folder / "config.json")
    refuse_code(folder, permissions)
    weight_files(folder, permissions)
    if config.get("quantization_config"):
        raise CheckpointError(f"{folder} holds quantized weights: audit the model that they were made from")
    if "transformers_weights" in config:
        raise CheckpointError(
            f"{folder} has its weights in another file than its name says (transformers_weights in config.json): "
            f"save it anew with model.save_pretrained(...)"
        )
    _refuse_other_models(folder, config)
    return config


def weight_files(folder: Path, permissions: Permissions, *, adapter: bool = False) -> tuple[Path, ...]:
    """The files that hold the weights of a checkpoint or of an adapter.

    Raises:
        CheckpointError: if there are only pickles and they are not permitted, or nothing at all, or what Git LFS left
            in a file's place.
    """
    files = safetensors_files(folder, adapter=adapter)
    pickles = () if files else pickle_files(folder, adapter=adapter)
    for file in files or pickles:
        try:
            refuse_pointer(file)
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error.strerror}; copy it again") from error
    if files:
        return files
    if not pickles:
        expected = "adapter_model.safetensors" if adapter else "model.safetensors or its shards with their index"
        raise CheckpointError(
            f"{folder} holds no weights: expected {expected} (pickles are neither fetched nor read "
            f"without --allow-pickle)"
        )
    if not permissions.pickle:
        raise CheckpointError(
            f"{pickles[0]} is a pickle, which can run code when it is read: save the model with "
            f"save_pretrained(...), which writes safetensors, or pass --allow-pickle (read with weights_only=True)"
        )
    return pickles


def refuse_code(folder: Path, permissions: Permissions) -> None:
    """Check that a folder ships no code, unless that is permitted.

    Raises:
        CheckpointError: naming what it ships.
    """
    if permissions.remote_code:
        return
    shipped = sorted(file.name for file in folder.glob("*.py"))
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in read_json(folder / name):
            shipped.append(f"auto_map in {name}")
    if shipped:
        raise CheckpointError(
            f"{folder} ships code ({', '.join(shipped)}), which would run when it is opened: read it, "
            f"then pass --trust-remote-code"
        )


def _refuse_other_models(folder: Path, config: dict[str, Any]) -> None:
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise CheckpointError(f"{folder / 'config.json'} has no list of names as `architectures`: save the model anew")
    if not architectures:
        return
    name = str(architectures[0])
    if config.get("is_encoder_decoder"):
        name += " with an encoder"
    elif name.endswith(_CAUSAL):
        return
    else:
        _refuse_unknown(folder, name)
    raise CheckpointError(
        f"{folder} holds a {name}, which is not a causal language model: circuits are audited on decoders "
        f"such as GPT2LMHeadModel or LlamaForCausalLM"
    )


def _refuse_unknown(folder: Path, name: str) -> None:
    import transformers

    if name not in dir(transformers):
        raise CheckpointError(
            f"{folder} holds a {name}, an architecture that transformers {transformers.__version__} does not know: "
            f"check that config.json belongs to these weights and that transformers is recent enough, or save the "
            f"model anew with save_pretrained"
        )
