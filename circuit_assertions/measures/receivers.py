"""Where a path ends: the logits, or the queries, keys or values of some heads at a position."""

from __future__ import annotations

from typing import Literal, NamedTuple

from circuit_assertions.heads import Head, show_heads

__all__ = ["Receiver"]

_WORDS = {"q": "query", "k": "key", "v": "value"}


class Receiver(NamedTuple):
    """The queries (`q`), keys (`k`) or values (`v`) of heads at a position. Prints as `query of L9H9, L10H0 at end`."""

    which: Literal["q", "k", "v"]
    heads: tuple[Head, ...]
    at: str

    def __str__(self) -> str:
        return f"{_WORDS[self.which]} of {show_heads(self.heads, most=len(self.heads))} at {self.at}"
