"""Tests hold the structure of what is printed: names, numbers, options and error classes, not its exact prose."""

from __future__ import annotations

from pathlib import Path

import pytest
from quoted_prose import quoted_prose
from said import says

TESTS = Path(__file__).parent
INSTEAD = (
    "check the error class and what is named (file, line, number, head, tensor, option), as in "
    "`says(caught.value, file, 3, '--allow-pickle')`, with one or two technical keywords where nothing is named"
)


@pytest.mark.parametrize("file", sorted(TESTS.glob("*.py")), ids=lambda file: str(file.name))
def test_no_test_quotes_a_phrase_of_the_product(file: Path) -> None:
    found = [f"tests/{file.name}:{one.line}: {one.phrase!r}" for one in quoted_prose(file.read_text())]
    assert not found, "\n" + "\n".join(found) + f"\n{INSTEAD}"


# -- the check itself -------------------------------------------------------------------------------------------------

PHRASE = "holds no weights at all"


@pytest.mark.parametrize(
    "test",
    [
        "assert 'PHRASE' in said",
        "assert 'PHRASE' not in str(caught.value)",
        "assert f'{file} PHRASE, {name}' in said",
        "assert said == ('a ' 'PHRASE')",
        "assert why.endswith('PHRASE')",
        "assert {'reason': 'PHRASE'} == data",
        "assert any(says(line, 3, 'PHRASE') for line in lines)",
        "assert load('PHRASE') == 'PHRASE'",
        "with pytest.raises(ValueError, match=r'PHRASE \\d+'): pass",
        "result.stdout.fnmatch_lines(['* PHRASE*'])",
        "lines = [line for line in said if 'PHRASE' in line]",
        "told = said.partition('PHRASE')[2]",
        "def test_it():\n  expected = 'PHRASE'\n  assert expected in said",
        "def test_it():\n  for given, said in ((1, 'x'), (2, 'PHRASE')):\n    assert said in load(given)",
        "def test_it():\n  for given, said in {1: 'PHRASE'}.items():\n    assert said in load(given)",
    ],
)
def test_a_phrase_in_a_comparison_is_found(test: str) -> None:
    (found,) = quoted_prose(test.replace("PHRASE", PHRASE))
    assert PHRASE in found.phrase


def test_the_line_is_that_of_the_text() -> None:
    source = f"x = 1\nassert (\n    '{PHRASE}'\n    in said\n)\n"
    assert [one.line for one in quoted_prose(source)] == [3]


@pytest.mark.parametrize(
    "marked",
    [
        "@parametrize(('given', 'said'), [(1, 'a'), (2, 'PHRASE')])",
        "@parametrize('given, said', [(1, 'a'), pytest.param(2, 'PHRASE', id='b')])",
        "@parametrize('said', ['a', 'PHRASE'])",
        "@parametrize(['said'], [('PHRASE',)])",
    ],
)
def test_a_phrase_in_a_column_that_is_compared_is_found(marked: str) -> None:
    test = f"{marked}\ndef test_it(given, said):\n  assert said in load(given)".replace("PHRASE", PHRASE)
    assert [one.phrase for one in quoted_prose(test)] == [PHRASE]


@pytest.mark.parametrize("call", ["refuses(1, 'PHRASE')", "refuses(1, said='PHRASE')"])
def test_a_phrase_that_a_helper_compares_with_is_found(call: str) -> None:
    test = f"def refuses(given, said):\n  assert said in load(given)\ndef test_it():\n  {call}"
    assert [one.phrase for one in quoted_prose(test.replace("PHRASE", PHRASE))] == [PHRASE]


@pytest.mark.parametrize(
    "test",
    [
        "assert says(caught.value, file, 3, '--allow-pickle', 'no weights')",
        "assert load('PHRASE').words == 4",
        "assert x, 'PHRASE'",
        "TEXT = 'PHRASE'\ndef test_it():\n  assert load(TEXT).text == TEXT",
        "def test_it():\n  why = 'PHRASE'\n  write(f'why: {why}')\n  assert read().why == why",
        "@parametrize('given', ['PHRASE'])\ndef test_it(given):\n  assert load(given).text == given",
        "@parametrize(('given', 'said'), [('PHRASE', 4)])\ndef test_it(given, said):\n  assert load(given) == said",
        "@parametrize(('given', 'said'), [(text('PHRASE'), 4)])\ndef test_it(given, said):\n  assert given == said",
        "def test_it():\n  '''PHRASE'''",
    ],
)
def test_an_input_is_no_phrase_of_the_product(test: str) -> None:
    assert quoted_prose(test.replace("PHRASE", PHRASE)) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("is a GPT2LMHeadModel of 3 layers", False),
        ("name-mover has no head", False),
        ("x.safetensors is cut off", False),
        ("one two three four", True),
        ("the model's weights, and others", True),
    ],
)
def test_names_and_numbers_end_a_phrase(text: str, found: bool) -> None:
    assert bool(quoted_prose(f'assert "{text}" in said')) == found


# -- whole tokens -----------------------------------------------------------------------------------------------------


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
