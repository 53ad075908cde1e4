"""Tables keep every text, align it, and read none of it as markup."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from circuit_assertions.cli.output import Outcome, printed, say
from circuit_assertions.printable import printable
from circuit_assertions.report.colours import colours_of, in_colour
from circuit_assertions.report.tables import Cell, Column, paragraph, table
from circuit_assertions.verdict_words import FAMILIES

WORD = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
ROWS = st.integers(1, 4).flatmap(lambda many: st.lists(st.lists(WORD, min_size=many, max_size=many), min_size=1))
ALIGNED = st.lists(
    st.builds(Column, st.integers(0, 9), st.sampled_from(["left", "center", "right"]), st.integers(1, 3)), max_size=4
)
MARKUP = ("[/red]", "[bold]x[/bold]", ":smile:", "a [link=http://x]b", "C:\\[a]\\", "[1, 2]", "\\[x]", "{task.total}")


@settings(deadline=None)  # the first table imports rich
@given(ROWS, ALIGNED)
def test_every_cell_stands_in_its_row_with_its_text_unchanged(rows: list[list[str]], columns: list[Column]) -> None:
    lines = table(rows, *columns)
    assert [line.split() for line in lines] == rows


@given(ROWS, ALIGNED)
def test_cells_of_a_column_begin_or_end_at_one_place(rows: list[list[str]], columns: list[Column]) -> None:
    layout = [*columns, *[Column()] * 4][: len(rows[0])]
    spans = [[found.span() for found in re.finditer(r"\S+", line)] for line in table(rows, *columns)]
    start = 0
    for place, column in enumerate(layout):
        own = [row[place] for row in spans]
        width = max(column.least, *(end - begin for begin, end in own))
        if column.align == "left":
            assert {begin for begin, _ in own} == {start}
        elif column.align == "right":
            assert {end for _, end in own} == {start + width}
        else:
            assert all(abs((begin - start) - (start + width - end)) <= 1 for begin, end in own)
        start += width + column.gap


@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
@example(["\U000112df"])  # a mark that takes no room of its own
def test_no_text_is_lost_cut_or_broken_whatever_its_letters(texts: list[str]) -> None:
    lines = table([(text, "end") for text in texts])
    assert len(lines) == len(texts)
    for text, line in zip(texts, lines, strict=True):
        assert line.startswith(printable(text))
        assert line.endswith("end")
    assert len({cell_len(line) for line in lines}) == 1


@pytest.mark.parametrize("text", MARKUP)
def test_markup_in_a_text_is_printed_as_it_is(text: str) -> None:
    for colours in (None, "truecolor"):
        assert table([(text, "x")], colours=colours) == [f"{text}  x"]
    assert list(in_colour([(text, "")], "truecolor")) == [text]


def test_the_terminal_has_no_effect_on_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a" * 300, "b c " * 100 + "d")]
    before = table(rows)
    for name, value in (("COLUMNS", "20"), ("TERM", "dumb"), ("FORCE_COLOR", "1"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    assert table([*rows]) == before == ["  ".join(rows[0])]


def test_a_column_without_texts_takes_no_room_unless_it_has_a_least_width() -> None:
    rows = [("", "a", "b"), ("", "c")]
    assert table(rows) == ["a  b", "c"]
    assert table(rows, Column(least=2, gap=1), indent=1) == ["    a  b", "    c"]
    assert table([]) == []
    assert table([(), ("",)]) == ["", ""]


def test_styles_are_those_of_whole_cells_and_shown_only_where_there_are_colours() -> None:
    rows = [(Cell("NM", "red"), "x")]
    column = Column(5, "center", gap=0)
    assert table(rows, column) == [" NM  x"]
    assert table(rows, column, colours="standard") == ["\x1b[31m NM  \x1b[0mx"]


def test_a_paragraph_has_its_labels_once_and_parts_no_word() -> None:
    rows = paragraph("some words and /a/path/that-is-long/and-is-not-parted", 12, "label")
    assert [label for label, _ in rows] == ["label", *[""] * (len(rows) - 1)]
    assert rows[-1] == ("", "/a/path/that-is-long/and-is-not-parted")
    assert all(len(text) <= 12 for _, text in rows[:-1])
    assert paragraph("", 12, "a", "b") == [("a", "b", "")]


class _Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("terminal", "environment", "shown"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (False, {"FORCE_COLOR": ""}, False),
    ],
)
def test_whether_there_are_colours_is_what_the_environment_and_the_stream_say(
    terminal: bool, environment: dict[str, str], shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm-256color"} | environment).items():
        monkeypatch.setenv(name, value)
    assert (colours_of(_Stream(terminal)) is not None) == shown


@pytest.mark.parametrize("word", [word for family in FAMILIES for word in family], ids=str)
def test_a_line_has_the_colour_of_its_verdict_in_the_table_of_words(word: str) -> None:
    codes = {"red": "31", "green": "32", "yellow": "33"}
    colour = next(one.colour for family in FAMILIES for one in family if one == word)
    expected = f"\x1b[{codes[colour]}m{word}: x\x1b[0m" if colour else f"{word}: x"
    for colours in ("standard", "256", "truecolor"):
        assert list(in_colour([(f"{word}: x", word)], colours)) == [expected]
    assert list(in_colour([(f"{word}: x", word)], None)) == [f"{word}: x"]


def test_the_command_line_prints_its_own_colours_and_no_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [(printable("BROKEN \x1b[32m [green]"), "BROKEN"), ("x", "")]
    for force, expected in (
        ("", "BROKEN \\x1b[32m [green]\nx\n"),
        ("1", "\x1b[31mBROKEN \\x1b[32m [green]\x1b[0m\nx\n"),
    ):
        monkeypatch.setenv("FORCE_COLOR", force)
        assert say(Outcome(printed(lines))) == 0
        assert capsys.readouterr().out == expected


def test_rich_is_not_imported_before_something_is_laid_out() -> None:
    looking = (
        "import sys\nimport circuit_assertions.report.tables as tables, circuit_assertions.report.colours\n"
        "assert 'rich' not in sys.modules\ntables.table([('a', 'b')])\nassert 'rich' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", looking], check=True, timeout=120)
