"""Tests hold the structure of what is printed: names, numbers, options and error classes, not its exact prose."""

from __future__ import annotations

import pytest
from said import says


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("layer 1 of 2", 1),
        ("only 5.", 5),
        ("suite.yaml:3:15: heads", "suite.yaml:3"),
        ("layers 1-2", 2),
        ("use --base=DIR", "--base"),
        ("'base' is missing", "base"),
        ("a Git\n   LFS pointer", "Git LFS"),
        ("is -36% of it", "-36%"),
        ("/x/config.json: no", "config.json"),
    ],
)
def test_a_whole_token_is_found(text: str, part: object) -> None:
    assert says(text, part)
    assert says(ValueError(text), part)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("layer 12", 1),
        ("1.5", 1),
        ("1.5", 5),
        ("-1", 1),
        ("1,024 tokens", 1),
        ("use --baseline=DIR", "--base"),
        ("use --base", "base"),
        ("the bases", "base"),
        ("the base-model", "base"),
        ("adapter_config.json", "config.json"),
        ("L0H12", "L0H1"),
        ("Pickle", "pickle"),
    ],
)
def test_a_part_of_a_token_is_not_found(text: str, part: object) -> None:
    assert not says(text, part)


def test_every_part_has_to_stand_in_the_text() -> None:
    assert says("L0H1 and L0H2", "L0H2", "L0H1")
    assert not says("L0H1 and L0H2", "L0H1", "L0H3")


@pytest.mark.parametrize("parts", [(), ("",), ("x", " ")])
def test_nothing_to_check_is_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="part"):
        says("x", *parts)
