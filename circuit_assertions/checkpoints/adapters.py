"""PEFT adapters: read into their base, merged in memory, and checked to compute the same merged as apart."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.reading import IN_A_BLOCK, are_same, logits_of, read_model, refuse_nan
from circuit_assertions.checkpoints.safety import refuse_code, weight_files
from circuit_assertions.checkpoints.settings import Opening
from circuit_assertions.checkpoints.weights import fingerprint, read_header

__all__ = ["read_adapter"]


def read_adapter(folder: Path, base_folder: Path, opening: Opening) -> tuple[Any, str]:
    from peft import PeftModel, get_peft_model_state_dict

    refuse_code(folder, opening.permissions)
    files = weight_files(folder, opening.permissions, adapter=True)
    own_print = fingerprint(files)
    base, print_of_base = read_model(base_folder, opening)
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
            f"adapter {folder} does not fit its base {base_folder}: {reason_of(error)} (name the right base "
            f"in its adapter_config.json, or save the merged model)"
        ) from error
    stored = [tensor.name for file in files if file.suffix == ".safetensors" for tensor in read_header(file)]
    spare = [name for name in stored if name not in read and IN_A_BLOCK.search(name)]
    if spare:
        raise CheckpointError(
            f"adapter {folder} does not fit its base {base_folder}, which has no place for {len(spare)} of its "
            f"tensors, {spare[0]} among them: name the right base in its adapter_config.json, or save the merged model"
        )
    refuse_nan(adapted, folder)
    return _merge(adapted, folder), hashlib.sha256(f"{print_of_base}+{own_print}".encode()).hexdigest()


def _merge(adapted: Any, folder: Path) -> Any:
    apart = logits_of(adapted)
    with warnings.catch_warnings(action="ignore"):
        merged = adapted.merge_and_unload()
    together = logits_of(merged)
    if not are_same(apart, together):
        # An adapter of a head that shares its weights with the embedding, for one: merged, it changes both.
        raise CheckpointError(
            f"adapter {folder} cannot be merged into its base without changing what it computes: "
            f"train it without tied weights (lm_head, embeddings) among its target modules"
        )
    return merged
