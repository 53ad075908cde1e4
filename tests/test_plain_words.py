"""Printed strings, suites and pages are plain technical English: none has a word of the table `plain_words.toml`."""

from __future__ import annotations

from pathlib import Path

import pytest
from printed_words import ROOT, Printed, banned_words, offences, printed_in, sources

BANNED = banned_words(Path(__file__).with_name("plain_words.toml"))


def said_in(text: str, kind: str = "printed") -> list[str]:
    return [found.said for found in offences(Printed(Path("x.py"), 1, kind, text), BANNED)]


def texts_of(folder: Path, name: str, content: str) -> list[Printed]:
    (folder / name).write_text(content)
    return printed_in(folder / name)


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_words_are_plain(file: Path) -> None:
    found = [str(one) for text in printed_in(file) for one in offences(text, BANNED)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mend       circuit-assertions graft", "mend"),
        ("  again     pytest --model=x", "again"),
        ("found anew 15 heads on 256 prompts", "found anew"),
        ("the {} heads of the baseline's circuit alone do {} of the behaviour", "alone do"),
        ("91% [90%, 91%] back", "] back"),
        ("{} back", "} back"),
        ("works against what it did, with {}% of its strength", "works against"),
        ("random sets like it heal 0%", "heal"),
        ("{} is no folder here, and the model hub did not give it: {}", "is no folder"),
        ("the counterfactual twin, with as many tokens", "twin"),
        ("L3H2 pushes the other way now", "the other way"),
        ("the behaviour is turned around, to the wrong answer", "turned around"),
        ("'x' is no share: write it as 2%", "is no share"),
        ("a checkpoint that lends what this one lacks", "lends"),
        ("find who plays which role", "who plays"),
        ("{}, and is broken still", "broken still"),
        ("the heads, then\n    and now", "then and now"),
    ],
)
def test_a_banned_phrase_is_found(text: str, said: str) -> None:
    assert said in said_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "a healthy model recommends itself; twin-names are one word",
        "held again from step 60",
        "write it again: it is no longer there",
        "there is no head L9H9",
        "name-movers-push-the-right-way",
        "what-was-corrupted-came-back",
        "go back to an earlier checkpoint",
        "fix        circuit-assertions graft --model x",
        "baseline circuit: faithfulness 112% [108%, 115%]",
    ],
)
def test_plain_words_pass(text: str) -> None:
    assert not said_in(text)


def test_every_banned_phrase_has_a_replacement_that_is_not_banned() -> None:
    assert len(BANNED) >= 40
    for entry in BANNED:
        assert entry.instead, entry.phrase.pattern
        assert not said_in(entry.instead.replace("N%", "5%"), "docstring"), entry.instead


def test_strings_of_code_are_read_whole_with_their_lines(tmp_path: Path) -> None:
    code = '''"""A public module."""
import re

KEY = "some-key"
PATTERN = re.compile("a pattern of words")


def shown(value: float) -> str:
    """What is public."""
    return f"left {value:.2f} of " f"{'it' if value else 'nothing at all'}"


def _hidden() -> str:
    """What is not public."""
    return "is printed"
'''
    assert [(one.line, one.kind, one.text) for one in texts_of(tmp_path, "x.py", code)] == [
        (1, "docstring", "A public module."),
        (9, "docstring", "What is public."),
        (10, "printed", "left {} of {}"),
        (15, "printed", "is printed"),
        (10, "printed", "nothing at all"),
    ]


def test_pages_are_read_without_their_code_and_with_their_outputs(tmp_path: Path) -> None:
    page = """# Title

First
paragraph.

```yaml
code: twin
```
<!-- output of `x`, from `^mend` -->
```text
mend  y
```

- Last.
"""
    assert [(one.line, one.kind, one.text) for one in texts_of(tmp_path, "x.md", page)] == [
        (1, "page", "# Title"),
        (3, "page", "First\nparagraph."),
        (11, "output", "mend  y"),
        (14, "page", "- Last."),
    ]


def test_suites_are_read_by_their_prose_and_comments(tmp_path: Path) -> None:
    suite = """# Who is
# who.
suite: a suite
assertions:
  - id: an-id
    why: because
      it does
    heads: any   # not this
"""
    assert {(one.line, one.text) for one in texts_of(tmp_path, "x.yaml", suite)} == {
        (1, "Who is\nwho."),
        (3, "a suite"),
        (6, "because it does"),
    }


def test_a_phrase_is_right_in_its_allowed_contexts() -> None:
    assert not said_in("`healed`", "page")
    assert said_in("`healed` and healed", "page") == ["healed"]
    assert not said_in("the circuit file beside the suite")


def test_a_place_and_the_replacement_are_named() -> None:
    (found,) = offences(Printed(ROOT / "docs" / "x.md", 7, "page", "one\ntwo alone\ndo it"), BANNED)
    assert str(found) == "docs/x.md:8: 'alone do': write \"baseline circuit: faithfulness N%\""
