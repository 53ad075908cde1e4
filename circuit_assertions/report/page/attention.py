"""Attention of a circuit's heads in a report: prompts as text, each token shaded by its share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from circuit_assertions.results.circuit_shown import AttendingHead, CircuitShown, PromptShown

__all__ = ["AttentionView", "HeadLine", "PromptView", "Token", "attention_of"]

_SHADES = 10


@dataclass(frozen=True)
class Token:
    """A token with its shade, and what marks it: where the head attends from, or where its role attends to."""

    text: str
    shade: int
    look: str
    said: str


@dataclass(frozen=True)
class HeadLine:
    """A prompt as one head of one model reads it.

    Attributes:
        most: the token with the largest share, and the share, in words.
    """

    whose: str
    tokens: tuple[Token, ...]
    most: str


@dataclass(frozen=True)
class PromptView:
    """A prompt with the lines of each head: head, role, and one or two lines."""

    text: str
    heads: tuple[tuple[str, str, tuple[HeadLine, ...]], ...]


@dataclass(frozen=True)
class AttentionView:
    """Attention in the prompts of one circuit on one model."""

    shown: CircuitShown
    prompts: tuple[PromptView, ...]


def attention_of(shown: CircuitShown) -> AttentionView | None:
    """Attention as text; None where no prompt was looked at."""
    return AttentionView(shown, tuple(map(_prompt, shown.looked_at))) if shown.looked_at else None


def _prompt(prompt: PromptShown) -> PromptView:
    heads = tuple((one.head, one.role, tuple(_lines(prompt.tokens, one))) for one in prompt.heads)
    return PromptView(" ".join(token.strip() for token in prompt.tokens), heads)


def _lines(tokens: Sequence[str], head: AttendingHead) -> Iterator[HeadLine]:
    yield _line("model", tokens, head, head.shares)
    if head.before is not None:
        yield _line("baseline", tokens, head, head.before)


def _line(whose: str, tokens: Sequence[str], head: AttendingHead, shares: Sequence[float]) -> HeadLine:
    def token(place: int, text: str) -> Token:
        share = shares[place] if place < len(shares) else 0.0
        look = "from" if place == head.query else "to" if place == head.key else ""
        return Token(text.strip() or "\u2423", round(_SHADES * min(1.0, share)), look, f"{share:.0%}")

    largest = max(range(len(shares)), key=lambda place: shares[place])
    most = f"{shares[largest]:.0%} to {tokens[largest].strip() or 'a space'}"
    return HeadLine(whose, tuple(token(place, text) for place, text in enumerate(tokens)), most)
