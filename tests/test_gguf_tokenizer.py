"""The tokenizer of a GGUF file gives the tokens that the file means: how text is split, merged, begun and joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import ON_CPU, opened
from gguf_files import with_words, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_model import word_tokenizer
from said import says

from circuit_assertions.checkpoints import CheckpointError, Opening, find_checkpoints
from circuit_assertions.checkpoints.gguf.header import read_gguf_header
from circuit_assertions.checkpoints.gguf.tokenizer import gguf_tokenizer
from circuit_assertions.checkpoints.opening import open_tokenizer

NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6


def spelled(byte: int) -> str:
    """A byte as byte-level BPE writes it: printable characters as themselves, the others from 256 on, in order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [one for one in range(256) if one not in plain]
    return chr(byte) if byte in plain else chr(256 + others.index(byte))


BYTES = [spelled(byte) for byte in range(256)]
SPACE, BREAK = spelled(ord(" ")), spelled(ord("\n"))
MERGES = [
    *(f"{SPACE} {SPACE}", "1 7", "17 3", "173 2", f"{SPACE} 1732", f"{SPACE} 1", "t h", "th e", f"{SPACE} the"),
    *(f"{BREAK} {BREAK}", ". .", "' s", "a b"),
]


def byte_level(pre: str | None = "gpt-2", **changes: Any) -> dict[str, Any]:
    """The metadata of a byte-level tokenizer with a few merges."""
    tokens = ["<|end|>", "<|start|>", *BYTES, *(merge.replace(" ", "") for merge in MERGES), "wholeword", "<think>"]
    metadata: dict[str, Any] = {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": [CONTROL, CONTROL, *[NORMAL] * (len(tokens) - 3), USER_DEFINED],
        "merges": MERGES,
        "bos_token_id": 1,
        "eos_token_id": 0,
    } | changes
    return {f"tokenizer.ggml.{key}": value for key, value in metadata.items() if value is not None}


def sentencepiece(**changes: Any) -> dict[str, Any]:
    """The metadata of a SentencePiece tokenizer whose pieces are merged by score."""
    pieces = ["▁", "M", "a", "r", "y", "ar", "Mar", "Mary", "▁Mary", "▁a"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    metadata: dict[str, Any] = {
        "model": "llama",
        "tokens": tokens,
        "scores": [0.0] * 259 + [-100.0] * 5 + [-float(number) for number in range(1, 6)],
        "token_type": [2, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(pieces)],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    } | changes
    return {f"tokenizer.ggml.{key}": value for key, value in metadata.items() if value is not None}


def built(folder: Path, metadata: dict[str, Any]) -> tuple[Any, list[str]]:
    """The tokenizer of a file with this metadata, and its notes."""
    write_gguf(folder / "model.gguf", change=lambda held, _: held.update(metadata))
    return gguf_tokenizer(read_gguf_header(folder / "model.gguf"))


def tokens_of(tokenizer: Any, text: str) -> list[str]:
    """With a space and a line break as people see them."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [token.replace(SPACE, "_").replace(BREAK, "|") for token in tokenizer.convert_ids_to_tokens(ids)]


# By pre-tokenizer: what its model's own tokenizer makes of a text with the merges above.
SPLITS: Sequence[tuple[str, str, list[str]]] = [
    ("gpt-2", "ab 1732", ["ab", "_1732"]),
    ("gpt-2", "ab  1732", ["ab", "_", "_1732"]),
    ("smollm", "ab 1732", ["ab", "_", "1", "7", "3", "2"]),
    ("smollm", "ab  1732", ["ab", "__", "1", "7", "3", "2"]),
    ("starcoder", "the 17", ["the", "_", "1", "7"]),
    ("command-r", "ab\n\n1", ["ab", "||", "1"]),
    ("llama-bpe", "ab 1732", ["ab", "_", "173", "2"]),
    ("llama-bpe", "ab..\n\n the", ["ab", "..", "||", "_the"]),
    ("llama-bpe", "ab'S", ["ab", "'", "S"]),
    ("qwen2", "ab 1732", ["ab", "_", "1", "7", "3", "2"]),
    ("qwen2", "ab's", ["ab", "'s"]),
    ("stablelm2", "17  the", ["1", "7", "_", "_the"]),
    ("falcon", "ab 1732", ["ab", "_", "173", "2"]),
    ("falcon", "ab...17", ["ab", "..", ".", "17"]),
    ("bloom", "ab 1732", ["ab", "_1732"]),
    (
        "bloom",
        "ab 17..",
        [
            "ab",
            "_",
            "17",
            "..",
        ],
    ),
]


@pytest.mark.parametrize(("pre", "text", "expected"), SPLITS)
def test_text_is_split_as_the_file_names_it(pre: str, text: str, expected: list[str], tmp_path: Path) -> None:
    tokenizer, notes = built(tmp_path, byte_level(pre))
    assert tokens_of(tokenizer, text) == expected
    assert notes == []


@pytest.mark.parametrize(("pre", "named"), [("viking", "viking"), (None, "not named")])
def test_a_way_of_splitting_that_is_not_recognised_is_noted(pre: str | None, named: str, tmp_path: Path) -> None:
    tokenizer, notes = built(tmp_path, byte_level(pre))
    assert tokens_of(tokenizer, "ab 1732") == ["ab", "_1732"]
    assert says(" ".join(notes), named, "--tokenizer=path/")


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=40))
@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "falcon", "bloom"])
def test_every_text_comes_out_as_it_went_in(pre: str, text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / f"bytes-{pre}"
    if pre not in KEPT:
        folder.mkdir()
        KEPT[pre] = built(folder, byte_level(pre))[0]
    tokenizer = KEPT[pre]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


KEPT: dict[str, Any] = {}


@pytest.mark.parametrize(("pre", "whole"), [("llama-bpe", True), ("gpt-2", False)])
def test_words_that_the_vocabulary_has_whole_are_whole_where_the_model_does_so(
    pre: str, whole: bool, tmp_path: Path
) -> None:
    tokens = tokens_of(built(tmp_path, byte_level(pre))[0], "wholeword")
    assert (tokens == ["wholeword"]) == whole


def test_special_tokens_may_have_any_letters(tmp_path: Path) -> None:
    metadata = byte_level(add_bos_token=True)
    metadata["tokenizer.ggml.tokens"][1] = "<début▁x>"
    tokenizer, _ = built(tmp_path, metadata)
    assert tokenizer("<début▁x>ab")["input_ids"][:2] == [1, 1]
    assert len(tokenizer) == len(metadata["tokenizer.ggml.tokens"])


def test_control_tokens_and_those_of_users_are_never_split(tmp_path: Path) -> None:
    tokenizer, _ = built(tmp_path, byte_level())
    assert tokens_of(tokenizer, "<|start|>ab<think>") == ["<|start|>", "ab", "<think>"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|start|>", "<|end|>")


BOS: Sequence[tuple[dict[str, Any], bool]] = [
    (byte_level("gpt-2"), False),
    (byte_level("gpt-2", add_bos_token=True), True),
    (byte_level("smollm", add_bos_token=False), False),
    (byte_level("llama-bpe"), True),
    (byte_level("llama-bpe", add_bos_token=False), False),
    (byte_level("gpt-2", add_bos_token=True, bos_token_id=None), False),
    (sentencepiece(), True),
    (sentencepiece(add_bos_token=False), False),
]


@pytest.mark.parametrize(("metadata", "expected"), BOS)
def test_a_text_begins_with_bos_where_the_file_says_so(
    metadata: dict[str, Any], expected: bool, tmp_path: Path
) -> None:
    tokenizer, _ = built(tmp_path, metadata)
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    assert tokenizer("a")["input_ids"] == [*([1] if expected else []), *plain]


def test_a_text_ends_with_eos_where_the_file_says_so(tmp_path: Path) -> None:
    tokenizer, _ = built(tmp_path, byte_level(add_eos_token=True))
    assert tokenizer("ab")["input_ids"][-1] == 0


@pytest.mark.parametrize(
    ("prefix", "expected"), [(None, ["▁Mary", "▁a"]), (True, ["▁Mary", "▁a"]), (False, ["Mary", "▁a"])]
)
def test_sentencepiece_puts_a_space_in_front_where_the_file_says_so(
    prefix: bool | None, expected: list[str], tmp_path: Path
) -> None:
    tokenizer, notes = built(tmp_path, sentencepiece(add_space_prefix=prefix))
    assert tokens_of(tokenizer, "Mary a") == expected
    assert tokens_of(tokenizer, "é")[-2:] == ["<0xC3>", "<0xA9>"]
    assert notes == []


def test_a_tokenizer_that_is_stored_whole_is_that_one(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"

    def change(metadata: dict[str, Any], tensors: dict[str, Any]) -> None:
        metadata.update(byte_level())
        with_words(metadata, tensors)

    write_gguf(file, change=change)
    tokenizer, own = opened(file).tokenizer, word_tokenizer()
    for text in ("When Mary and John went to the store, John gave a drink to", " Mary"):
        assert tokenizer(text)["input_ids"] == own(text)["input_ids"]


# -- which one is taken -------------------------------------------------------------------------------------------


def test_the_tokenizer_that_is_given_goes_before_the_file_s_own(tmp_path: Path) -> None:
    file, given_one = tmp_path / "model.gguf", tmp_path / "given"
    write_gguf(file, change=lambda held, _: held.update(byte_level()))
    word_tokenizer().save_pretrained(given_one)
    found = open_tokenizer(find_checkpoints(str(file))[0], Opening(device="cpu", tokenizer=str(given_one)))
    assert len(found) == len(word_tokenizer())


@pytest.mark.parametrize("spelling", ["model.gguf", "."])
def test_a_gguf_file_lends_its_tokenizer(spelling: str, tmp_path: Path) -> None:
    bare, lender = tmp_path / "bare.gguf", tmp_path / "lender"
    lender.mkdir()
    write_gguf(bare)
    write_gguf(lender / "model.gguf", change=lambda held, _: held.update(byte_level("smollm")))
    opening = Opening(device="cpu", tokenizer=str(lender / spelling))
    assert tokens_of(open_tokenizer(find_checkpoints(str(bare))[0], opening), "17") == ["1", "7"]


@pytest.mark.parametrize("place", ["its folder", "the run", "the baseline"])
def test_a_file_without_a_tokenizer_takes_the_nearest(place: str, tmp_path: Path) -> None:
    step, base = tmp_path / "run" / "checkpoint-3", tmp_path / "base"
    step.mkdir(parents=True)
    write_gguf(step / "model.gguf", change=lambda held, _: held.update({"tokenizer.ggml.model": "no_vocab"}))
    base.mkdir()
    write_gguf(base / "model.gguf", change=lambda held, _: held.update(byte_level()))
    if place != "the baseline":
        word_tokenizer().save_pretrained(step if place == "its folder" else step.parent)
    opening = Opening(device="cpu", base=find_checkpoints(str(base))[0])
    found = open_tokenizer(find_checkpoints(str(step.parent))[0], opening)
    assert (len(found) == len(word_tokenizer())) == (place != "the baseline")


@pytest.mark.parametrize(
    "changes", [{"model": "bert"}, {"tokens": ["a"]}, {"merges": ["x y"]}, {"tokens": [1, 2, 3]}, {"model": 7}]
)
def test_a_tokenizer_that_cannot_be_built_asks_for_another(changes: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, change=lambda held, _: held.update(byte_level(**changes)))
    with pytest.raises(CheckpointError) as caught:
        open_tokenizer(find_checkpoints(str(file))[0], ON_CPU)
    assert says(caught.value, file, "--tokenizer=path/")
    assert "\n" not in str(caught.value)


def test_a_chat_template_is_never_run(tmp_path: Path) -> None:
    """It may be from anyone, and nothing here needs it."""
    template = "{{ raise_exception('run') }}{% for a in range(10**12) %}{% endfor %}"
    write_gguf(
        tmp_path / "model.gguf",
        change=lambda held, _: held.update(byte_level() | {"tokenizer.chat_template": template}),
    )
    assert tokens_of(opened(tmp_path / "model.gguf").tokenizer, "ab") == ["ab"]
