"""The tensors of a checkpoint under their plain names, each once. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.prefixes import plain_name
from circuit_assertions.checkpoints.weights import StoredTensor, read_header, same_bytes

__all__ = ["refuse_wrong_index", "stored_tensors"]


def stored_tensors(
    tensors: Iterable[StoredTensor], name_of: Callable[[str], str] = plain_name
) -> dict[str, StoredTensor]:
    """Tensors by the names that they have in the model.

    Raises:
        CheckpointError: if two of them have one name and hold different values.
    """
    found: dict[str, StoredTensor] = {}
    for tensor in tensors:
        name = name_of(tensor.name)
        first = found.setdefault(name, tensor)
        if first is not tensor and not same_bytes(first, tensor):
            raise CheckpointError(
                f"{_place(first)} and {_place(tensor)} hold different values of the tensor {name}: "
                f"keep the right file, or save the model again with save_pretrained"
            )
    return found


def refuse_wrong_index(files: Sequence[Path], weight_map: Mapping[str, str]) -> None:
    """Check that every tensor is in the shard that the index names.

    Raises:
        CheckpointError: naming the first tensor that is not.
    """
    held = {file.name: {tensor.name for tensor in read_header(file)} for file in files}
    for name, file in sorted(weight_map.items()):
        if name not in held.get(file, set()):
            others = sorted(other for other, names in held.items() if name in names)
            where = f"{others[0]} holds it" if others else "no shard holds it"
            folder = files[0].parent
            raise CheckpointError(
                f"{folder / 'model.safetensors.index.json'} lists {name} in {file}, which does not hold it "
                f"({where}): copy or save the whole checkpoint again"
            )


def _place(tensor: StoredTensor) -> str:
    return f"{tensor.file} ({tensor.name})"
