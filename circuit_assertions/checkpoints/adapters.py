"""PEFT adapters: read into their base, merged in memory, and checked to compute the same merged as apart."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.fetching import lent_base
from circuit_assertions.checkpoints.formats import read_weights
from circuit_assertions.checkpoints.function import adapter_settings
from circuit_assertions.checkpoints.loading import opened_tensors
from circuit_assertions.checkpoints.patterns import refuse_endless
from circuit_assertions.checkpoints.prefixes import without_wrappers, wrappers_in
from circuit_assertions.checkpoints.reading import Read, are_same, logits_of, refuse_nan, refuse_overflow
from circuit_assertions.checkpoints.safety import refuse_code, weight_files
from circuit_assertions.checkpoints.settings import Opening
from circuit_assertions.checkpoints.sources import read_json
from circuit_assertions.checkpoints.stored import stored_tensors
from circuit_assertions.checkpoints.weights import StoredTensor, fingerprint, fingerprint_of, read_header, same_bytes

__all__ = ["read_adapter", "refuse_without_peft"]

_INSTALL = "pip install 'circuit-assertions[peft]'"

_WHOLE = r"modules_to_save\.(default\.)?|original_module\.|base_layer\."  # before `weight`, where all rows are stored
_MISMATCH = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\(\[([\d, ]*)\]\) from checkpoint, "
    r"the shape in current model is torch\.Size\(\[([\d, ]*)\]\)"
)


def refuse_without_peft(folder: Path) -> None:
    """Refuse an adapter where peft, an optional dependency that nothing else needs, cannot be imported.

    Raises:
        CheckpointError: with the command that installs it.
    """
    try:
        importlib.import_module("peft")
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "peft"
        why = "is not installed" if absent else f"cannot be imported ({reason_of(error)})"
        raise CheckpointError(f"{folder} is a PEFT adapter, and peft, which reads it, {why}: {_INSTALL}") from error


def read_adapter(folder: Path, base_folder: Path, opening: Opening) -> Read:
    """Read an adapter into its base, and merge them.

    Raises:
        CheckpointError: if it does not fit its base, cannot be merged, or its configuration has no bound.
    """
    from peft import PeftModel

    refuse_code(folder, opening.permissions)
    config = read_json(folder / "adapter_config.json")
    files = weight_files(folder, opening.permissions, adapter=True)
    headers = [one for file in files if file.suffix == ".safetensors" for one in read_header(file)]
    tensors = stored_tensors(headers, without_wrappers)
    own_print = fingerprint_of(tensors) if tensors else fingerprint(files)
    stored = {name: one.shape for name, one in tensors.items()}
    lent = lent_base(folder, base_folder, opening)
    read = read_weights(base_folder, opening)
    names = [name for name, _ in read.model.named_modules()] + [name for name, _ in read.model.named_parameters()]
    refuse_endless(folder, config, names, max((size for shape in stored.values() for size in shape), default=0))
    resized = _resize(read.model, stored)
    try:
        with warnings.catch_warnings(action="ignore"), _unwrapped(folder, tensors) as place:
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(read.model, str(place), torch_device="cpu").eval()
        if adapted.active_peft_config.is_prompt_learning:
            raise CheckpointError(
                f"adapter {folder} is not audited: it is a learned prompt, which has no weights that could be merged "
                f"into its base; audit the base, {base_folder}"
            )
        places = _places(adapted)
    except CheckpointError:
        raise
    except Exception as error:
        # What a foreign adapter_config.json asks for can end anywhere in the library, with any exception.
        raise CheckpointError(
            f"adapter {folder} does not fit its base {base_folder}: {_misfit(error)} (name the right base "
            f"in its adapter_config.json, or save the merged model)"
        ) from error
    spare = sorted(name for name in stored if name not in places and not _is_copy(name, tensors))
    if spare:
        raise CheckpointError(
            f"adapter {folder} does not fit its base {base_folder}, which has no place for {len(spare)} of its "
            f"tensors, {spare[0]} among them: name the right base in its adapter_config.json, or save the merged model"
        )
    refuse_nan(adapted, folder)
    weights = hashlib.sha256(f"{read.weights}+{own_print}".encode()).hexdigest()
    function = read.function.with_adapter(adapter_settings(folder))
    wrappers = [one for one in wrappers_in(tensor.name for tensor in headers) if not one.endswith("of PEFT")]
    wrapped = f"the adapter's weight names are read without {', '.join(wrappers)}" if wrappers else None
    notes = (*read.notes, *filter(None, (lent, resized, wrapped)))
    return Read(_merge(adapted, folder), weights, function, notes)


@contextlib.contextmanager
def _unwrapped(folder: Path, tensors: Mapping[str, StoredTensor]) -> Iterator[Path]:
    """The adapter's folder; where wrappers changed its weight names, a copy under plain names that is removed again."""
    if all(one.name == name for name, one in tensors.items()):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place, opened_tensors(tensors) as stored:
        shutil.copyfile(folder / "adapter_config.json", Path(place) / "adapter_config.json")
        save_file({name: one[:] for name, one in stored.items()}, Path(place) / "adapter_model.safetensors")
        yield Path(place)


def _resize(model: Any, stored: Mapping[str, tuple[int, ...]]) -> str | None:
    """Make room for tokens that were added in training, where the adapter holds the whole embedding with them."""
    end = model.get_output_embeddings()
    first = model.get_input_embeddings()
    paths = {id(module): name for name, module in model.named_modules()}
    rows = []
    for module in (first, *([] if end is None else [end])):
        whole = re.compile(rf"base_model\.model\.{re.escape(paths[id(module)])}\.({_WHOLE})?weight")
        rows.append({shape[0] for name, shape in stored.items() if whole.fullmatch(name) and len(shape) == 2})
    before, sizes = len(first.weight), set().union(*rows)
    tied = end is None or end.weight is first.weight
    if len(sizes) != 1 or sizes == {before} or not (tied or all(rows)):
        return None
    wanted = sizes.pop()
    model.resize_token_embeddings(wanted, mean_resizing=False)
    return f"the embedding has {wanted} tokens, as in the adapter, and {before} in its base"


def _places(adapted: Any) -> set[str]:
    """The names by which an adapter's file may hold the tensors of this model."""
    from peft import get_peft_model_state_dict

    return {*get_peft_model_state_dict(adapted, save_embedding_layers=False), *adapted.state_dict()}


def _is_copy(name: str, tensors: Mapping[str, StoredTensor]) -> bool:
    """Whether a tensor is the copy that PEFT writes beside a module that was trained whole."""
    other = tensors.get(name.replace(".modules_to_save.", "."))
    return other is not None and other is not tensors[name] and same_bytes(other, tensors[name])


def _misfit(error: Exception) -> str:
    """Why it does not fit: of a size mismatch the tensor and both shapes, which torch tells further down."""
    found = _MISMATCH.search(str(error))
    if found is None:
        return reason_of(error)
    name, stored, expected = found.groups()
    return f"{name} has shape ({stored}) in the adapter and ({expected}) in the base"


def _merge(adapted: Any, folder: Path) -> Any:
    apart = logits_of(adapted)
    refuse_overflow(adapted, folder, apart)
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
