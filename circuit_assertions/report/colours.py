"""Colours on the command line: rich decides whether a stream has any, and writes them.

Which verdict has which colour is in `verdict_words`, and only there. pytest colours the same lines with its own writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TextIO

from circuit_assertions.verdict_words import colour_of

__all__ = ["colours_of", "in_colour"]


def colours_of(stream: TextIO) -> str | None:
    """rich's name of the colours that a stream shows, `standard`, `256` or `truecolor`; None if it shows none.

    A stream that is no terminal shows none, unless FORCE_COLOR is set; NO_COLOR and TERM=dumb turn them off.
    """
    from rich.console import Console

    console = Console(file=stream, force_jupyter=False)
    return None if console.no_color or console.legacy_windows else console.color_system


def in_colour(lines: Iterable[tuple[str, str]], colours: str | None) -> Iterator[str]:
    """Lines with the colours of the verdicts beside them.

    Args:
        lines: (text, verdict) pairs; a line whose verdict is empty has no colour.
        colours: what the stream shows, from `colours_of`.
    """
    from rich.color import ColorSystem
    from rich.style import Style

    system = None if colours is None else {"256": ColorSystem.EIGHT_BIT}.get(colours, ColorSystem.STANDARD)
    for text, verdict in lines:
        yield Style(color=colour_of(verdict) or None).render(text, color_system=system)
