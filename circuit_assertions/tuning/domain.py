"""Which words a text has more often than ordinary text, and how many tokens of a read-out are among them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from circuit_assertions.ordering import ranked

__all__ = ["overlap", "over_represented", "words_of"]

_WORD = re.compile(r"[^\W\d_]{2,}")


def words_of(text: str) -> list[str]:
    """The words of a text in small letters; single letters and numbers are none."""
    return [word.lower() for word in _WORD.findall(text)]


def over_represented(text: str, ordinary: str, most: int) -> list[str]:
    """The words that a text has more often than ordinary text does, the most over-represented first.

    Words are ranked by the log-likelihood ratio of their counts in the two texts (Dunning 1993).
    """
    here, there = Counter(words_of(text)), Counter(words_of(ordinary))
    total, others = sum(here.values()), sum(there.values())
    scores = {word: _ratio(count, there[word], total, others) for word, count in here.items()}
    more = [word for word in sorted(here) if here[word] * max(others, 1) > there[word] * total]
    return ranked(more, lambda word: scores[word])[:most]


def overlap(tokens: Iterable[str], words: Sequence[str]) -> list[str]:
    """The tokens, as text, that are one of these words."""
    known = set(words)
    return [token for token in tokens if token.strip().lower() in known]


def _ratio(here: int, there: int, total: int, others: int) -> float:
    share = (here + there) / (total + others)
    found = here * math.log(here / (total * share))
    return found + (there * math.log(there / (others * share)) if there else 0.0)
