"""What a GGUF file says about itself: metadata, and the name, type, shape and place of every tensor.

The format: the magic bytes, a version, the numbers of tensors and of metadata entries, the entries, the tensors' table,
and from the next multiple of the alignment the tensors' bytes
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). No weights are read. Everything here comes from a file that
may be damaged or made to do harm: every length is compared with what is left of the file before it is used, because the
library that reads the file afterwards does not do so.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.gguf.files import MAGIC, refuse_part
from circuit_assertions.checkpoints.sources import refuse_pointer
from circuit_assertions.checkpoints.weights import StoredTensor

__all__ = ["GgufHeader", "read_gguf_header"]

_VERSIONS = (2, 3)
_ALIGNMENT = 32  # where the metadata contains none
_MOST_DIMENSIONS = 4
_MOST_TENSORS = 1 << 16  # a hundred times what large models have
_MOST_VALUES = 1 << 21  # in all metadata together: a vocabulary of 262,144 tokens with its merges has 1.3 million
_STRING, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class GgufHeader:
    """What a file contains besides its weights.

    Attributes:
        metadata: by key; arrays are lists.
        tensors: in the file's order, with their shapes as torch has them: rows first.
    """

    file: Path
    metadata: Mapping[str, Any]
    tensors: tuple[StoredTensor, ...]

    @property
    def architecture(self) -> str:
        """What the file calls it: `llama`, `qwen2`, `gpt2`."""
        return str(self.metadata["general.architecture"])

    @property
    def name(self) -> str:
        """What its author called the model; empty where nothing is said."""
        name = self.metadata.get("general.name")
        return name if isinstance(name, str) else ""

    @property
    def settings(self) -> dict[str, Any]:
        """The metadata of its architecture, without the architecture's name in front."""
        prefix = f"{self.architecture}."
        return {key.removeprefix(prefix): value for key, value in self.metadata.items() if key.startswith(prefix)}

    @property
    def types(self) -> Counter[str]:
        """How many tensors are of which type."""
        return Counter(tensor.dtype for tensor in self.tensors)

    @property
    def stored(self) -> int:
        """How many numbers all tensors have together."""
        return sum(prod(tensor.shape) for tensor in self.tensors)


def read_gguf_header(file: Path) -> GgufHeader:
    """Read and check a file's header.

    Raises:
        CheckpointError: if the file is truncated or damaged, is one of several parts, has a version or a tensor type
            that is not known, or says something that no model needs.
    """
    sizes = _type_sizes(file)
    try:
        refuse_pointer(file)
        with file.open("rb") as stream:
            reader = _Reader(file, stream, file.stat().st_size)
            count, entries = reader.start()
            metadata = reader.metadata(entries)
            table = [reader.entry() for _ in range(count)]
            at = stream.tell()
            size = reader.size
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}; copy it again") from error
    if not isinstance(metadata.get("general.architecture"), str):
        raise CheckpointError(f"{file} has no general.architecture in its metadata: convert it again")
    parts = metadata.get("split.count")
    refuse_part(file, parts if isinstance(parts, int) else 1)
    return GgufHeader(file, metadata, _placed(file, table, _start_of_data(file, metadata, at), size, sizes))


def _type_sizes(file: Path) -> dict[int, tuple[str, int, int]]:
    """By the number of a tensor type: its name, and how many numbers and how many bytes a block of it has."""
    try:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    except Exception as error:
        raise CheckpointError(
            f"{file} is a GGUF file, and the package gguf, which reads it, cannot be imported ({reason_of(error)}): "
            f"install gguf again"
        ) from error
    return {int(one): (one.name, *GGML_QUANT_SIZES[one]) for one in GGMLQuantizationType if one in GGML_QUANT_SIZES}


class _Reader:
    """Reads forward through a header and never beyond the file's end."""

    def __init__(self, file: Path, stream: BinaryIO, size: int) -> None:
        self.file, self.stream, self.size = file, stream, size
        self.values = 0  # of metadata, so far

    def damaged(self, how: str) -> CheckpointError:
        return CheckpointError(f"{self.file} is damaged: {how}; copy or download it again")

    def start(self) -> tuple[int, int]:
        """The numbers of tensors and of metadata entries."""
        if self.stream.read(len(MAGIC)) != MAGIC:
            raise CheckpointError(f"{self.file} does not begin as a GGUF file does: copy or download it again")
        (number,) = self.numbers("I")
        if number not in _VERSIONS:
            swapped = int.from_bytes(number.to_bytes(4, "little"), "big")
            what = "is in big-endian order" if swapped in _VERSIONS else f"has version {number} of the format"
            raise CheckpointError(
                f"{self.file} {what}, and only little-endian files of version {' and '.join(map(str, _VERSIONS))} "
                f"are read: convert it again"
            )
        tensors, entries = self.numbers("QQ")
        if tensors > _MOST_TENSORS or entries > _MOST_VALUES:
            raise self.damaged(f"it states {tensors} tensors and {entries} entries of metadata")
        return tensors, entries

    def take(self, count: int) -> bytes:
        if count > self.size - self.stream.tell():
            raise CheckpointError(f"{self.file} is truncated or damaged in its header: copy or download it again")
        return self.stream.read(count)

    def numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def text(self) -> str:
        (length,) = self.numbers("Q")
        raw = self.take(length)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.damaged(f"a text in its header is not UTF-8 ({raw[:20]!r})") from error

    def metadata(self, entries: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(entries):
            key = self.text()
            if key in found:
                raise self.damaged(f"its metadata has {key!r:.60} twice")
            (kind,) = self.numbers("I")
            found[key] = self.array(key) if kind == _ARRAY else self.several(key, kind, 1)[0]
        return found

    def array(self, key: str) -> list[Any]:
        kind, count = self.numbers("IQ")
        return self.several(key, kind, count)

    def several(self, key: str, kind: int, count: int) -> list[Any]:
        self.values += count
        if self.values > _MOST_VALUES:
            raise self.damaged(f"its metadata has {self.values} values up to {key!r:.60}, more than any model needs")
        if kind == _STRING:
            return [self.text() for _ in range(count)]
        if kind not in _NUMBERS:
            raise self.damaged(f"its metadata has {key!r:.60} of the unknown type {kind}")
        if kind == _BOOL and any(byte > 1 for byte in self.peeked(count)):
            raise self.damaged(f"its metadata has {key!r:.60}, which is neither true nor false")
        return list(self.numbers(f"{count}{_NUMBERS[kind]}"))

    def peeked(self, count: int) -> bytes:
        at = self.stream.tell()
        raw = self.take(count)
        self.stream.seek(at)
        return raw

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """A tensor's name, shape (rows first), type and offset."""
        name = self.text()
        (dimensions,) = self.numbers("I")
        if not 0 < dimensions <= _MOST_DIMENSIONS:
            raise self.damaged(f"its tensor {name!r:.60} has {dimensions} dimensions")
        shape = self.numbers(f"{dimensions}Q")
        kind, offset = self.numbers("IQ")
        return name, tuple(reversed(shape)), kind, offset


def _start_of_data(file: Path, metadata: Mapping[str, Any], at: int) -> int:
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
        raise CheckpointError(f"{file} is damaged: its alignment is {alignment!r:.40}; copy or download it again")
    return -(-at // alignment) * alignment


def _placed(
    file: Path,
    table: list[tuple[str, tuple[int, ...], int, int]],
    start: int,
    size: int,
    sizes: Mapping[int, tuple[str, int, int]],
) -> tuple[StoredTensor, ...]:
    """The tensors where they lie, each within the file and none over another."""
    tensors = []
    for name, shape, kind, offset in table:
        if kind not in sizes:
            raise CheckpointError(
                f"{file} stores {name!r:.60} in a type of number {kind}, which gguf {version('gguf')} does not know: "
                f"install a newer gguf, or convert the model to F16 or Q8_0"
            )
        called, block, width = sizes[kind]
        if not all(shape) or shape[-1] % block:
            raise CheckpointError(
                f"{file} is damaged: its tensor {name!r:.60} of shape {shape} cannot be of type {called}; copy or "
                f"download it again"
            )
        first = start + offset
        tensors.append(StoredTensor(name, called, shape, file, first, first + prod(shape) // block * width))
    names = Counter(tensor.name for tensor in tensors)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise CheckpointError(f"{file} is damaged: it has two tensors {twice!r:.60}; copy or download it again")
    end = start
    for tensor in sorted(tensors, key=lambda tensor: tensor.start):
        if tensor.stop > size:
            raise CheckpointError(
                f"{file} is truncated at tensor {tensor.name!r:.60} ({size} bytes, {tensor.stop} expected): copy or "
                f"download it again"
            )
        if tensor.start < end:
            raise CheckpointError(
                f"{file} is damaged: its tensor {tensor.name!r:.60} lies over another; copy or download it again"
            )
        end = tensor.stop
    return tuple(tensors)
