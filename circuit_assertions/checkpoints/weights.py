"""Weight files as bytes: which there are, whether they are whole, and the fingerprint of what they hold.

The fingerprint is SHA-256 over every tensor's name, dtype, shape and bytes, in the order of their names. It is the same
however the tensors are spread over shards and whatever training wrappers put into their names, is streamed in small
pieces, and needs neither torch nor a second copy of the weights in memory. The safetensors format: 8 bytes of header
length, a JSON header, then the tensors' bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.prefixes import plain_name
from circuit_assertions.checkpoints.sources import read_json

__all__ = [
    "StoredTensor",
    "fingerprint",
    "fingerprint_of",
    "pickle_files",
    "read_header",
    "safetensors_files",
    "same_bytes",
    "weight_map_of",
]

_PIECE = 1 << 22  # bytes read at a time
_LONGEST_HEADER = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies in a safetensors file. `start` and `stop` are byte offsets from the file's beginning."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    stop: int


def safetensors_files(folder: Path, *, adapter: bool = False) -> tuple[Path, ...]:
    """The safetensors files that are read when the checkpoint is opened: the single file, or the index's shards.

    Raises:
        CheckpointError: if the index cannot be read, or names a shard that does not exist.
    """
    single = folder / ("adapter_model.safetensors" if adapter else "model.safetensors")
    if single.is_file():
        return (single,)
    index = folder / "model.safetensors.index.json"
    return _shards(index) if index.is_file() and not adapter else ()


def pickle_files(folder: Path, *, adapter: bool = False) -> tuple[Path, ...]:
    """Weight files in pickle format (a trainer's optimizer and random states are never weights)."""
    if adapter:
        return tuple(folder.glob("adapter_model.bin"))
    single = folder / "pytorch_model.bin"
    names = ("pytorch_model*.bin", "model*.bin", "*.ckpt", "model*.pt", "model*.pth")
    return (single,) if single.is_file() else tuple(sorted(file for name in names for file in folder.glob(name)))


def read_header(file: Path) -> tuple[StoredTensor, ...]:
    """Read and check one file's header.

    Raises:
        CheckpointError: if the file is truncated, or its header does not describe exactly the bytes that follow.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, _LONGEST_HEADER):
                raise CheckpointError(f"{file} is truncated or not a safetensors file: copy or save it again")
            raw = stream.read(length)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}; copy it again") from error
    try:
        header: dict[str, Any] = json.loads(raw)
        tensors = tuple(
            StoredTensor(name, *_kind(entry), file, *_span(entry, 8 + length))
            for name, entry in header.items()
            if name != "__metadata__"
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{file} has a corrupt header ({error}): copy or save it again") from error
    end = 8 + length
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.stop)):
        if tensor.start != end or tensor.stop < tensor.start:
            raise CheckpointError(f"{file} is corrupt at tensor {tensor.name!r}: copy or save it again")
        end = tensor.stop
    if end != size:
        kind = "truncated" if size < end else "longer than its header declares"
        raise CheckpointError(f"{file} is {kind} ({size} bytes, {end} expected): copy or save it again")
    return tensors


def fingerprint(files: Sequence[Path]) -> str:
    """Fingerprint of the weights in `files`: 64 hexadecimal digits. Pickles are hashed as plain bytes.

    Raises:
        CheckpointError: if a safetensors file is truncated or corrupt.
    """
    tensors = {
        tensor.name if file.name.startswith("adapter") else plain_name(tensor.name): tensor
        for file in files
        if file.suffix == ".safetensors"
        for tensor in read_header(file)
    }
    pickles = [file for file in files if file.suffix != ".safetensors"]
    return fingerprint_of(tensors, pickles)


def fingerprint_of(tensors: Mapping[str, StoredTensor], pickles: Sequence[Path] = ()) -> str:
    """Fingerprint of tensors under the names that are given, and of pickles as plain bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tensor.shape}\0".encode())
        _hash_bytes(digest, tensor.file, tensor.start, tensor.stop)
    for file in pickles:
        _hash_bytes(digest, file, 0, file.stat().st_size)
    return digest.hexdigest()


def same_bytes(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two stored tensors are the same to the last bit."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    prints = []
    for tensor in (one, other):
        digest = hashlib.sha256()
        _hash_bytes(digest, tensor.file, tensor.start, tensor.stop)
        prints.append(digest.digest())
    return prints[0] == prints[1]


def weight_map_of(folder: Path) -> dict[str, str]:
    """Which shard holds which tensor, as the index says; empty where the weights are in a single file.

    Raises:
        CheckpointError: if the index cannot be read.
    """
    index = folder / "model.safetensors.index.json"
    return _weight_map(index) if index.is_file() and not (folder / "model.safetensors").is_file() else {}


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    names = weight_map.values() if isinstance(weight_map, dict) else ()
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise CheckpointError(f"{index} does not list the files that contain the tensors: copy or save it again")
    assert isinstance(weight_map, dict)
    return weight_map


def _shards(index: Path) -> tuple[Path, ...]:
    names = set(_weight_map(index).values())
    shards = [index.parent / name for name in sorted(names)]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise CheckpointError(f"{index} names {', '.join(missing)}, which does not exist: copy the whole checkpoint")
    return tuple(shards)


def _kind(entry: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    if not isinstance(dtype, str) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"a tensor of dtype {dtype!r:.40} and shape {shape!r:.40}")
    return dtype, shape


def _span(entry: dict[str, Any], offset: int) -> tuple[int, int]:
    start, stop = entry["data_offsets"]
    return offset + int(start), offset + int(stop)


def _hash_bytes(digest: hashlib._Hash, file: Path, start: int, stop: int) -> None:
    with file.open("rb") as stream:
        stream.seek(start)
        left = stop - start
        while left > 0:
            piece = stream.read(min(_PIECE, left))
            if not piece:
                raise CheckpointError(f"{file} ended {left} bytes early: copy or save it again")
            digest.update(piece)
            left -= len(piece)
