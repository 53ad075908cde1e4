"""Weight files as bytes: the fingerprint of what they hold, and damage found before anything is opened."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import change_header, change_tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from said import says
from tiny_models import config_of, random_model
from torch import Tensor

from circuit_assertions.checkpoints import CheckpointError, Permissions, fingerprint
from circuit_assertions.checkpoints.safety import weight_files
from circuit_assertions.checkpoints.weights import read_header, safetensors_files

Arrays = dict[str, Any]

names = st.text("abcdefgh.0123", min_size=1, max_size=6)
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
dtypes = st.sampled_from(["float32", "float16", "int64", "uint8"])


@st.composite
def arrays(draw: st.DrawFn) -> Arrays:
    """Small tensors of any name, type and shape, empty ones and scalars among them."""
    chosen = draw(st.dictionaries(names, st.tuples(shapes, dtypes), min_size=1, max_size=5))
    generator = np.random.default_rng(draw(st.integers(0, 9)))
    return {
        name: np.asarray(generator.integers(0, 100, shape)).astype(dtype) for name, (shape, dtype) in chosen.items()
    }


def _written(content: Arrays, folder: Path, name: str = "model.safetensors") -> Path:
    save_file(content, folder / name)
    return folder / name


@settings(deadline=None, max_examples=50)
@given(arrays(), st.randoms())
def test_the_fingerprint_does_not_depend_on_how_tensors_are_spread_over_files(content: Arrays, rng: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = fingerprint([_written(content, folder)])
        homes: dict[int, Arrays] = {}
        for key, value in content.items():
            homes.setdefault(rng.randrange(3), {})[key] = value
        shards = [_written(part, folder, f"shard-{number}.safetensors") for number, part in homes.items()]
        rng.shuffle(shards)
        assert fingerprint(shards) == whole


@settings(deadline=None, max_examples=50)
@given(arrays(), st.data())
def test_the_fingerprint_changes_with_any_one_element_name_type_or_shape(content: Arrays, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(content)))
    array = content[key]
    changes = ["name", "type", "shape", *(["element"] if array.size else [])]
    change = data.draw(st.sampled_from(changes))
    changed = dict(content)
    if change == "element":
        changed[key] = array.copy()
        changed[key].reshape(-1)[data.draw(st.integers(0, array.size - 1))] += 1
    elif change == "name":
        changed[f"{key}x"] = changed.pop(key)
    elif change == "type":
        changed[key] = array.view(np.int8) if array.dtype == np.uint8 else array.astype(np.float64)
    else:
        changed[key] = array[None]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before, after = _written(content, folder), _written(changed, folder, "changed.safetensors")
        assert fingerprint([before]) != fingerprint([after])


@settings(deadline=None, max_examples=100)
@given(arrays(), st.data())
def test_a_file_cut_anywhere_is_refused(content: Arrays, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        file = _written(content, Path(name))
        raw = file.read_bytes()
        file.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
        with pytest.raises(CheckpointError, match="truncated") as caught:
            fingerprint([file])
        assert str(file) in str(caught.value)


@settings(deadline=None, max_examples=100)
@given(arrays(), st.data())
def test_a_damaged_header_is_never_more_than_a_checkpoint_error(content: Arrays, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        file = _written(content, Path(name))
        raw = bytearray(file.read_bytes())
        length = int.from_bytes(raw[:8], "little")
        for _ in range(data.draw(st.integers(1, 4))):
            raw[data.draw(st.integers(0, 8 + length - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(raw)
        with contextlib.suppress(CheckpointError):  # a changed letter of a name is another valid file
            assert len(fingerprint([file])) == 64


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A saved GPT-2 of three layers."""
    random_model(config_of("gpt2", 50)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_single_and_sharded_saves_have_the_same_fingerprint(tiny: Path, tmp_path: Path) -> None:
    random_model(config_of("gpt2", 50)).save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    sharded = safetensors_files(tmp_path / "sharded")
    assert len(sharded) > 1
    assert fingerprint(sharded) == fingerprint(safetensors_files(tiny))


def test_one_changed_weight_changes_the_fingerprint(tiny: Path) -> None:
    before = fingerprint(safetensors_files(tiny))

    def nudge(tensors: dict[str, Tensor]) -> None:
        tensors["transformer.h.1.mlp.c_fc.weight"][3, 4] += 1e-6

    change_tensors(tiny / "model.safetensors", nudge)
    assert fingerprint(safetensors_files(tiny)) != before


def test_the_file_that_transformers_reads_is_the_one_that_is_fingerprinted(tiny: Path) -> None:
    expected = fingerprint(safetensors_files(tiny))
    (tiny / "model.safetensors.index.json").write_text('{"weight_map": {"a": "other.safetensors"}}')
    (tiny / "consolidated.safetensors").write_bytes(b"")
    assert fingerprint(safetensors_files(tiny)) == expected


def test_fingerprinting_streams(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"big": np.zeros(30_000_000, dtype=np.float32)}, file)
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom circuit_assertions.checkpoints import fingerprint\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\nfingerprint([Path(sys.argv[1])])\nprint((peak() - before) // 1024, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True)
    grown, needs_torch = done.stdout.split()
    assert int(grown) < 40  # MB, of a file of 120 MB
    assert needs_torch == "False"


def _refused(folder: Path, permissions: Permissions | None = None, *, adapter: bool = False) -> str:
    with pytest.raises(CheckpointError) as caught:
        fingerprint(weight_files(folder, permissions or Permissions(), adapter=adapter))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "../model/model.safetensors"}}',
        '{"weight_map": {"a": "/etc/hostname"}}',
        "[" * 100_000,
    ],
)
def test_an_index_that_says_nothing_useful_is_refused(tiny: Path, index: str) -> None:
    (tiny / "model.safetensors").rename(tiny / "model-00001-of-00001.safetensors")
    (tiny / "model.safetensors.index.json").write_text(index)
    assert "model.safetensors.index.json" in _refused(tiny)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    random_model(config_of("gpt2", 50)).save_pretrained(tmp_path, max_shard_size="50KB")
    lost = safetensors_files(tmp_path)[1]
    lost.unlink()
    assert says(_refused(tmp_path), "model.safetensors.index.json", lost.name, "exist")


def test_a_header_that_is_no_object_is_corrupt(tiny: Path) -> None:
    for header in (b"[]", b"3", b"[" * 100_000, b'{"a": 3}', b'{"a": {"dtype": "F32", "shape": 3}}'):
        (tiny / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        assert says(_refused(tiny), tiny / "model.safetensors", "corrupt header")


def test_a_header_longer_than_the_file_is_refused_without_reading_on(tiny: Path) -> None:
    raw = (tiny / "model.safetensors").read_bytes()
    (tiny / "model.safetensors").write_bytes(b"\xff" * 8 + raw[8:])
    assert says(_refused(tiny), tiny / "model.safetensors", "truncated")


def test_tensors_that_overlap_or_leave_gaps_are_refused(tiny: Path) -> None:
    def overlap(header: dict[str, Any]) -> None:
        header["transformer.h.1.ln_1.bias"]["data_offsets"] = [0, 128]

    change_header(tiny / "model.safetensors", overlap)
    assert says(_refused(tiny), tiny / "model.safetensors", "corrupt at tensor")


def test_tensors_may_be_named_in_any_order_empty_ones_included(tmp_path: Path) -> None:
    header = {
        "full": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "empty": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},
    }
    raw = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(8))
    assert fingerprint([tmp_path / "model.safetensors"]) == fingerprint(
        [_written({"full": np.zeros(2, np.float32), "empty": np.zeros(0, np.float32)}, tmp_path, "other.safetensors")]
    )


def test_bytes_behind_the_last_tensor_are_refused(tiny: Path) -> None:
    with (tiny / "model.safetensors").open("ab") as stream:
        stream.write(b"more")
    assert says(_refused(tiny), tiny / "model.safetensors", "longer")


def test_the_header_tells_where_each_tensor_lies(tiny: Path) -> None:
    for tensor in read_header(tiny / "model.safetensors"):
        assert tensor.stop - tensor.start == 4 * int(np.prod(tensor.shape))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_a_pickle_is_refused_unless_it_is_allowed(tmp_path: Path, name: str) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / name)
    assert says(_refused(tmp_path), tmp_path / name, "pickle", "--allow-pickle")
    assert weight_files(tmp_path, Permissions(pickle=True)) == (tmp_path / name,)


def test_a_pickled_adapter_is_not_hidden_by_some_other_safetensors_file(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "adapter_model.bin")
    save_file({"a": np.zeros(2)}, tmp_path / "model.safetensors")
    assert says(_refused(tmp_path, adapter=True), tmp_path / "adapter_model.bin", "pickle", "--allow-pickle")


def test_what_a_trainer_pickles_beside_safetensors_does_no_harm(tiny: Path) -> None:
    for name in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth"):
        torch.save({}, tiny / name)
    assert weight_files(tiny, Permissions()) == (tiny / "model.safetensors",)
