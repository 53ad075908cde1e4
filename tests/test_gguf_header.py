"""A GGUF file that is damaged, cut off or made to do harm is refused in one sentence, before memory is taken for it."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from checkpoint_files import ON_CPU, refused
from gguf import GGMLQuantizationType as Kind
from gguf_files import write_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from said import says

from circuit_assertions.checkpoints import CheckpointError
from circuit_assertions.checkpoints.formats import read_weights
from circuit_assertions.checkpoints.gguf.header import read_gguf_header
from circuit_assertions.checkpoints.quiet import quiet

ANY_TIMES = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT, NUMBER, ARRAY = 8, 4, 9  # types of metadata


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file with metadata of every kind. Not to be changed."""
    file = tmp_path_factory.mktemp("whole") / "model.gguf"
    more = {"some.words": ["a", "bb", ""], "some.numbers": [1, 2, 3], "some.flag": True, "general.alignment": 64}
    write_gguf(file, kind=Kind.Q4_0, change=lambda metadata, _: metadata.update(more))
    return file


def start_of_data(file: Path) -> int:
    return min(tensor.start for tensor in read_gguf_header(file).tensors)


def text(value: str) -> bytes:
    return len(value).to_bytes(8, "little") + value.encode()


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


LLAMA = entry("general.architecture", TEXT, text("llama"))


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    """An entry of the table; the shape as GGUF has it, columns first."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def file_of(
    folder: Path,
    *metadata: bytes,
    tensors: tuple[bytes, ...] = (),
    data: bytes = b"",
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> Path:
    """A file written byte by byte."""
    head = struct.pack("<4sIQQ", b"GGUF", version, *(counts or (len(tensors), len(metadata))))
    raw = head + b"".join((*metadata, *tensors))
    (folder / "made.gguf").write_bytes(raw + bytes(-len(raw) % 32) + data)
    return folder / "made.gguf"


def test_the_header_is_what_gguf_itself_reads(whole: Path) -> None:
    header, reader = read_gguf_header(whole), gguf.GGUFReader(whole)
    assert header.metadata == {
        key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")
    }
    assert len(header.tensors) == len(reader.tensors)
    for ours, theirs in zip(header.tensors, reader.tensors, strict=True):
        assert (ours.name, ours.dtype) == (theirs.name, theirs.tensor_type.name)
        assert ours.shape == tuple(reversed(theirs.shape.tolist()))
        assert (ours.start, ours.stop - ours.start) == (theirs.data_offset, theirs.n_bytes)


def or_refusal(read: Callable[[], Any]) -> Any:
    """What is read, or the text of its refusal. Any other exception passes."""
    try:
        return read()
    except CheckpointError as error:
        return str(error)


# -- damage -------------------------------------------------------------------------------------------------------


@ANY_TIMES
@given(st.data())
def test_a_file_that_is_cut_off_anywhere_is_refused(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    raw = whole.read_bytes()
    kept = data.draw(st.one_of(st.integers(0, start_of_data(whole)), st.integers(0, len(raw) - 1)))
    (tmp_path / "cut.gguf").write_bytes(raw[:kept])
    with pytest.raises(CheckpointError, match=r"cut\.gguf") as caught:
        read_gguf_header(tmp_path / "cut.gguf")
    assert "\n" not in str(caught.value)


@ANY_TIMES
@given(st.data())
def test_a_changed_header_is_read_or_refused_and_nothing_else(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(whole.read_bytes())
    places = st.integers(0, start_of_data(whole) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)):
        raw[place] = value
    file = tmp_path / "changed.gguf"
    file.write_bytes(raw)
    header = or_refusal(lambda: read_gguf_header(file))
    if isinstance(header, str):
        assert "\n" not in header
    else:
        assert all(tensor.stop <= len(raw) for tensor in header.tensors)


@settings(ANY_TIMES, max_examples=25)
@given(st.data())
def test_a_flipped_bit_ends_in_a_model_or_in_a_refusal(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Through all of transformers, which reads the file after it was checked."""
    raw = bytearray(whole.read_bytes())
    raw[data.draw(st.integers(0, start_of_data(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file = tmp_path / "flipped.gguf"
    file.write_bytes(raw)
    with quiet():
        model = or_refusal(lambda: read_weights(file, ON_CPU))
    if isinstance(model, str):
        assert str(file) in model
        assert "\n" not in model


@pytest.mark.parametrize("raw", [b"", b"GGUF", b"not a GGUF file at all", b"PK\3\4" * 20])
def test_another_file_is_not_taken_for_one(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(raw)
    assert says(refused(tmp_path / "model.gguf"), tmp_path / "model.gguf")


def test_what_git_lfs_left_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert says(refused(tmp_path / "model.gguf"), tmp_path / "model.gguf", "git lfs pull")


@pytest.mark.parametrize(("version", "words"), [(1, "version 1"), (4, "version 4"), (3 << 24, "big-endian")])
def test_other_versions_are_named(version: int, words: str, tmp_path: Path) -> None:
    assert says(refused(file_of(tmp_path, LLAMA, version=version)), words)


# -- absurd sizes -------------------------------------------------------------------------------------------------

HUGE = 1 << 60
ABSURD: dict[str, Callable[[Path], Path]] = {
    "tensors": lambda folder: file_of(folder, LLAMA, counts=(HUGE, 1)),
    "entries": lambda folder: file_of(folder, LLAMA, counts=(0, HUGE)),
    "length of a text": lambda folder: file_of(folder, entry("a", TEXT, struct.pack("<Q", HUGE))),
    "length of a key": lambda folder: file_of(folder, struct.pack("<Q", HUGE), counts=(0, 1)),
    "length of an array": lambda folder: file_of(folder, entry("a", ARRAY, struct.pack("<IQ", NUMBER, HUGE))),
    "number of texts": lambda folder: file_of(folder, entry("a", ARRAY, struct.pack("<IQ", TEXT, 1 << 20))),
    "arrays in arrays": lambda folder: file_of(folder, entry("a", ARRAY, struct.pack("<IQ", ARRAY, 3))),
    "shape": lambda folder: file_of(folder, LLAMA, tensors=(tensor("a", (HUGE, HUGE)),)),
    "no size": lambda folder: file_of(folder, LLAMA, tensors=(tensor("a", (0,)),)),
    "dimensions": lambda folder: file_of(folder, LLAMA, tensors=(tensor("a", (1,) * 9),)),
    "offset": lambda folder: file_of(folder, LLAMA, tensors=(tensor("a", (1,), offset=HUGE),)),
    "half a block": lambda folder: file_of(folder, LLAMA, tensors=(tensor("a", (33,), Kind.Q8_0),), data=bytes(99)),
    "alignment": lambda folder: file_of(folder, LLAMA, entry("general.alignment", NUMBER, struct.pack("<I", 3))),
    "type of metadata": lambda folder: file_of(folder, entry("a", 77, b"")),
    "architecture": lambda folder: file_of(folder, entry("general.name", TEXT, text("llama"))),
    "one key twice": lambda folder: file_of(folder, LLAMA, LLAMA),
    "one name twice": lambda folder: file_of(
        folder, LLAMA, tensors=(tensor("a", (8,)), tensor("a", (8,), offset=32)), data=bytes(64)
    ),
    "one place twice": lambda folder: file_of(
        folder, LLAMA, tensors=(tensor("a", (16,)), tensor("b", (8,), offset=32)), data=bytes(64)
    ),
}


@pytest.mark.parametrize("what", ABSURD)
def test_absurd_headers_are_refused_before_memory_is_taken(what: str, tmp_path: Path) -> None:
    file = ABSURD[what](tmp_path)
    read_weights  # noqa: B018  (all that is needed is imported)
    tracemalloc.start()
    try:
        assert says(refused(file), file)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_metadata_beyond_all_vocabularies_is_refused(tmp_path: Path) -> None:
    """Of single bytes, which the file has room for, and the library makes an object of each."""
    many = 3 << 20
    file = file_of(tmp_path, LLAMA, entry("a", ARRAY, struct.pack("<IQ", 0, many) + bytes(many)))
    assert says(refused(file), file, "values")


@pytest.mark.parametrize("kind", [Kind.Q8_1, Kind.Q8_K, Kind.I32, Kind.F64, Kind.I8], ids=lambda kind: kind.name)
def test_a_type_that_cannot_be_read_is_named(kind: Kind, tmp_path: Path) -> None:
    block, width = gguf.GGML_QUANT_SIZES[kind]
    file = file_of(tmp_path, LLAMA, tensors=(tensor("a.weight", (block, 2), kind),), data=bytes(2 * width))
    assert says(refused(file), file, "a.weight", kind.name)


def test_a_type_that_is_newer_than_the_package_is_named_by_its_number(tmp_path: Path) -> None:
    file = file_of(tmp_path, LLAMA, tensors=(tensor("a.weight", (32,), 250),), data=bytes(99))
    assert says(refused(file), file, "a.weight", 250, gguf.__name__)


def test_a_part_is_known_by_its_metadata_too(tmp_path: Path) -> None:
    file = file_of(tmp_path, LLAMA, entry("split.count", 2, struct.pack("<H", 3)))
    assert says(refused(file), file, "3 parts")


def test_an_installation_without_the_package_is_explained(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    assert says(refused(whole), whole, "gguf", "install")


def test_numbers_are_read_as_they_were_written(tmp_path: Path) -> None:
    values: dict[int, tuple[str, float]] = {
        0: ("B", 200),
        1: ("b", -3),
        2: ("H", 60_000),
        3: ("h", -9),
        4: ("I", 4_000_000_000),
        5: ("i", -7),
    }
    values |= {6: ("f", 0.5), 7: ("?", True), 10: ("Q", 1 << 63), 11: ("q", -(1 << 62)), 12: ("d", 0.1)}
    entries = [entry(f"n.{kind}", kind, struct.pack(f"<{form}", value)) for kind, (form, value) in values.items()]
    metadata = read_gguf_header(file_of(tmp_path, LLAMA, *entries)).metadata
    assert {key: value for key, value in metadata.items() if key.startswith("n.")} == {
        f"n.{kind}": value for kind, (_, value) in values.items()
    }
    assert np.float32(metadata["n.6"]) == 0.5
