"""What a checkpoint folder must not do: run code while it is opened, or be something other than a causal decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.quantized import refuse_quantized
from circuit_assertions.checkpoints.settings import Permissions
from circuit_assertions.checkpoints.sources import read_json, refuse_pointer
from circuit_assertions.checkpoints.weights import pickle_files, safetensors_files

__all__ = [
    "inspect_folder",
    "is_transformers_class",
    "refuse_code",
    "refuse_other_head",
    "refuse_other_models",
    "weight_files",
]

_CAUSAL = ("ForCausalLM", "LMHeadModel", "LMHeadCustomModel")


def inspect_folder(folder: Path, permissions: Permissions) -> dict[str, Any]:
    """Check a checkpoint folder without opening its weights, and return its `config.json`.

    Raises:
        CheckpointError: if it names code, holds pickles alone or quantized weights, or is no causal language model.
    """
    config = read_json(folder / "config.json")
    refuse_code(folder, permissions)
    weight_files(folder, permissions)
    refuse_quantized(folder, config, ())
    if "transformers_weights" in config:
        raise CheckpointError(
            f"{folder} has its weights in a file with another name (transformers_weights in config.json): "
            f"save it again with model.save_pretrained(...)"
        )
    if "configuration_files" in config:
        raise CheckpointError(
            f"{folder} has its configuration in other files than config.json (configuration_files): save it again with "
            f"model.save_pretrained(...)"
        )
    refuse_other_models(folder, config)
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
    """Check that opening a folder runs no code from it, unless that is permitted.

    A file of Python that nothing names, such as the zero_to_fp32.py of DeepSpeed, is never run.

    Raises:
        CheckpointError: naming the code.
    """
    if permissions.remote_code:
        return
    shipped = []
    for name in ("config.json", "tokenizer_config.json", "adapter_config.json"):
        if (folder / name).is_file() and _has_key(read_json(folder / name), "auto_map"):
            shipped.append(f"auto_map in {name}")
    shipped += sorted(f"custom_generate/{file.name}" for file in (folder / "custom_generate").glob("*.py"))
    adapter = folder / "adapter_config.json"
    if adapter.is_file() and read_json(adapter).get("megatron_config"):
        shipped.append("megatron_core in adapter_config.json")
    if shipped:
        raise CheckpointError(
            f"{folder} ships code ({', '.join(shipped)}), which would run when it is opened: read it, "
            f"then pass --trust-remote-code"
        )


def _has_key(value: Any, key: str) -> bool:
    """Whether a JSON value has a key that holds something, at any depth."""
    if isinstance(value, dict):
        return bool(value.get(key)) or any(_has_key(one, key) for one in value.values())
    return any(_has_key(one, key) for one in value) if isinstance(value, list) else False


def refuse_other_head(folder: Path, config: dict[str, Any], read_as: str, spare: str) -> None:
    """Refuse a model with another head than a language model's, by the class that config.json names.

    Raises:
        CheckpointError: if config.json names such a class.
    """
    name = _named(config)
    if not name.endswith(_CAUSAL) and is_transformers_class(name):
        raise CheckpointError(
            f"{folder} holds a {name}, which is not a causal language model: circuits are audited on decoders "
            f"such as GPT2LMHeadModel or LlamaForCausalLM (a {read_as} has no place for {spare})"
        )


def is_transformers_class(name: str) -> bool:
    """Whether transformers has a model of this name."""
    import transformers

    return bool(name) and name in dir(transformers)


def _named(config: dict[str, Any]) -> str:
    """The class that config.json names; empty where it names none."""
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def refuse_other_models(folder: Path, config: dict[str, Any]) -> None:
    """Refuse what transformers makes no causal language model of. The class's name has no say in it.

    Raises:
        CheckpointError: naming the class, or what config.json calls it.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if not isinstance(kind, str) or _has_key(config, "auto_map"):
        return
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{folder / 'config.json'} has no list of names as `architectures`: save the model again")
    name = _named(config) or kind
    if config.get("is_encoder_decoder"):
        name += " with an encoder"
    elif kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    elif kind not in CONFIG_MAPPING_NAMES:
        _refuse_unknown(folder, name)
    raise CheckpointError(
        f"{folder} holds a {name}, which is not a causal language model: circuits are audited on decoders "
        f"such as GPT2LMHeadModel or LlamaForCausalLM"
    )


def _refuse_unknown(folder: Path, name: str) -> None:
    import transformers

    raise CheckpointError(
        f"{folder} holds a {name}, an architecture that transformers {transformers.__version__} does not know: "
        f"check that config.json belongs to these weights and that transformers is recent enough, or save the "
        f"model again with save_pretrained"
    )
