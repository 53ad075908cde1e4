"""Rows in columns, laid out by rich without a box, as plain lines of text.

The width of a terminal has no effect: a line is never broken or cut, so that files, logs and pytest's report are alike
everywhere. Nothing in a cell is read as rich's markup. rich is imported when the first table is laid out.
"""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from circuit_assertions.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Cell", "Column", "paragraph", "table"]

_ENDLESS = 1_000_000  # cells, more than any line has


@dataclass(frozen=True)
class Column:
    """How the cells of a column are laid out.

    Attributes:
        least: the least width in cells. A column without it takes no room if all of its cells are empty.
        align: where the text stands in a cell.
        gap: how many blanks are between this column and the next.
    """

    least: int = 0
    align: Literal["left", "center", "right"] = "left"
    gap: int = 2


@dataclass(frozen=True)
class Cell:
    """A text with a style of rich's, `#ffffff on #2166ac`, which is that of the whole cell."""

    text: str
    style: str = ""


_PLAIN = Column()


def table(
    rows: Sequence[Sequence[str | Cell]], *columns: Column, indent: int = 0, colours: str | None = None
) -> list[str]:
    """One line for each row, without blanks at its end.

    Args:
        rows: their cells, which may be fewer than columns.
        columns: the first columns; the others are plain.
        indent: how many blanks each line begins with.
        colours: rich's name of the colours that styles are shown in, `standard`, `256` or `truecolor`; None for none.
    """
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    filled = [[Cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    many = max(map(len, filled), default=0)
    layout = [*columns, *[_PLAIN] * many][:many]
    kept = [place for place, column in enumerate(layout) if column.least or any(_text(row, place) for row in filled)]
    gaps = [layout[place].gap if place != kept[-1] else 0 for place in kept]
    grid = Table.grid(padding=0)
    for place, gap in zip(kept, gaps, strict=True):
        grid.add_column(justify=layout[place].align, min_width=max(1, layout[place].least) + gap, no_wrap=True)
    for row in filled:
        cells = [row[place] if place < len(row) else Cell("") for place in kept]
        texts = [Text(printable(cell.text), cell.style) for cell in cells]
        grid.add_row(*(Padding(text, (0, gap, 0, 0)) for text, gap in zip(texts, gaps, strict=True)))
    if not kept:
        return [""] * len(filled)
    console = _console(colours)
    with console.capture() as captured:
        console.print(grid)
    return [f"{' ' * indent}{line}".rstrip() for line in captured.get().removesuffix("\n").split("\n")]


def paragraph(text: str, width: int, *labels: str) -> list[tuple[str, ...]]:
    """The rows of a text that is broken into lines of this width; labels stand before the first of them.

    Words are not parted, so that a path or a command can be copied.
    """
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
    blank = [""] * len(labels)
    return [(*(blank if number else labels), line) for number, line in enumerate(lines)]


def _text(row: Sequence[Cell], place: int) -> str:
    return row[place].text if place < len(row) else ""


@functools.cache
def _console(colours: str | None) -> Console:
    from rich.console import Console

    return Console(
        file=io.StringIO(),
        width=_ENDLESS,
        force_terminal=colours is not None,
        force_jupyter=False,
        color_system=cast(Any, colours),
        no_color=False,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
